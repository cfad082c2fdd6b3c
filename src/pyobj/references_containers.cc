// The references of containers and of what keeps its contents in blocks of its own.
#include <algorithm>

#include "pyobj/ndarray.h"
#include "pyobj/references.h"
#include "pyobj/strings.h"

namespace heapcore {
namespace {

// ndarray.flags; numpy/ndarraytypes.h, the same in 1.x and 2.x, as is the struct up to the flags.
constexpr std::uint32_t kNumpyOwnsData = 0x0004;
constexpr Field kNdData{16, 8};
constexpr Field kNdCount{24, 4};
constexpr Field kNdDimensions{32, 8};
constexpr Field kNdBase{48, 8};
constexpr Field kNdDescr{56, 8};
constexpr Field kNdFlags{64, 4};
constexpr Field kNdMemHandler{88, 8};  // a PyCapsule, from 1.22 on
constexpr Field kDescrKind{24, 1};     // 'O' for object
constexpr std::uint64_t kMaxDimensions = 64;
constexpr std::uint64_t kGeneralEntryBytes = 24;  // hash, key, value: keys of any type (3.11+)

EdgeName named(const char* field) {
  return {What::kField, field};
}

}  // namespace

// To 3.10 a table with keys of any type has a lookup function of its own. That of a type's subclasses, by address, is
// one; `object` has subclasses.
void ReferenceReader::find_general_lookup() {
  const Field& lookup = layout_.PyDictKeysObject.dk_lookup;
  if (!lookup.present()) return;
  Addr object_type = 0;
  Addr subclasses = 0;
  Addr keys = 0;
  if (elsewhere_.try_load(runtime_.type_type + layout_.PyTypeObject.tp_base.offset, object_type) &&
      elsewhere_.try_load(object_type + layout_.PyTypeObject.tp_subclasses.offset, subclasses) &&
      elsewhere_.try_load(subclasses + layout_.PyDictObject.ma_keys.offset, keys)) {
    elsewhere_.try_load(keys + lookup.offset, general_lookup_);
  }
}

bool ReferenceReader::dict_table(const ObjectView& object, Bytes bytes, DictTable& table) {
  const Addr keys_at = field(bytes, layout_.PyDictObject.ma_keys);
  const Addr values_at = field(bytes, layout_.PyDictObject.ma_values);
  const auto keys = read_dict_keys(elsewhere_, traits_, keys_at);
  if (!keys) {
    damaged(object.address, "a dict's table is damaged or not in the snapshot; its contents are not followed");
    return false;
  }
  table.count = keys->nentries;
  table.stride = static_cast<std::uint32_t>(keys->entry_bytes);
  table.key_offset = static_cast<std::uint32_t>(keys->key_offset);
  table.value_offset = static_cast<std::uint32_t>(keys->value_offset);
  const auto& fields = layout_.PyDictKeysObject;
  if (fields.dk_lookup.present()) {
    std::uint64_t lookup = 0;
    elsewhere_.try_load(keys_at + fields.dk_lookup.offset, lookup);
    table.visits_keys = lookup == general_lookup_;
  } else {
    table.visits_keys = keys->entry_bytes == kGeneralEntryBytes;
  }
  table.entries = elsewhere_.span(keys_at + keys->entries_offset, table.count * keys->entry_bytes);
  if (values_at != 0) {
    const auto& values = layout_.PyDictValues;
    std::uint8_t embedded = 0;
    if (values.embedded.present()) elsewhere_.try_load(values_at + values.embedded.offset, embedded);
    table.values = elsewhere_.span(values_at + values.values.offset, table.count * kWordBytes);
    table.visits_values = embedded == 0 || traits_.dict_visits_inline_values;
    table.holds_keys = keys->refcnt == 1;
    if (table.values.empty()) table.count = 0;
  }
  if (table.entries.empty() && table.count != 0) {
    damaged(object.address, "a dict's entries are not in the snapshot");
    return false;
  }
  return true;
}

void ReferenceReader::visit_dict_buffers(const ObjectView&, Bytes bytes, const Sink& visit) {
  const Addr keys = field(bytes, layout_.PyDictObject.ma_keys);
  const Addr values = field(bytes, layout_.PyDictObject.ma_values);
  visit(keys, RefKind::kBuffer, named("ma_keys"));
  if (values == 0) return;
  const auto& fields = layout_.PyDictValues;
  std::uint8_t prefix = 0;
  if (fields.embedded.present()) {
    elsewhere_.try_load(values + fields.embedded.offset, prefix);
    if (prefix != 0) return;  // part of the instance
  } else if (traits_.pre_header != PreHeader::kNone) {
    elsewhere_.try_load(values - 1, prefix);  // 3.11, 3.12: the order of insertion lies before the values
  }
  visit(values - (fields.embedded.present() ? 0 : prefix), RefKind::kBuffer, named("ma_values"));
}

void ReferenceReader::visit_more_of_dict(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                         const Sink& visit) {
  if (plan.kind == Kind::kDefaultDict) {
    visit(field(bytes, layout_.defdictobject.default_factory), plan.inner, named("default_factory"));
  } else if (plan.kind == Kind::kOrderedDict) {
    visit_ordered_dict(object, plan, bytes, visit);
  }
}

void ReferenceReader::visit_ordered_dict(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                         const Sink& visit) {
  const auto& fields = layout_.PyODictObject;
  const auto& node = layout_._odictnode;
  visit(field(bytes, fields.od_inst_dict), plan.inner, named("__dict__"));
  if (traits_.ordered_dict_visits_weakrefs)
    visit(field(bytes, fields.od_weakreflist), plan.inner, named("od_weakreflist"));
  visit(field(bytes, fields.od_fast_nodes), RefKind::kBuffer, named("od_fast_nodes"));
  Addr at = field(bytes, fields.od_first);
  std::uint64_t left = field(bytes, layout_.PyDictObject.ma_used);
  for (Addr previous = 0; at != 0 && left != 0; --left) {
    const Bytes words = elsewhere_.span(at, node.size_bytes);
    if (words.empty() || field(words, node.prev) != previous)
      return damaged(object.address, "an OrderedDict's list of nodes breaks off");
    visit(at, RefKind::kBuffer, named("node"));
    const Addr key = field(words, node.key);
    visit(key, traits_.ordered_dict_visits_nodes ? plan.inner : RefKind::kOwned, EdgeName{What::kDictKey, "", key});
    previous = at;
    at = field(words, node.next);
  }
  if (at != 0) damaged(object.address, "an OrderedDict's list of nodes does not end where its length says");
}

void ReferenceReader::visit_dict27(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                   const Sink& visit) {
  const auto& entry = layout_.PyDictEntry;
  const Addr table = field(bytes, layout_.PyDictObject.ma_table);
  const std::uint64_t mask = field(bytes, layout_.PyDictObject.ma_mask);
  if (table == 0 || mask >= kMaxChain || (mask & (mask + 1)) != 0)
    return damaged(object.address, "a dict's table is damaged; its contents are not followed");
  if (table != object.address + layout_.PyDictObject.ma_smalltable.offset)
    visit(table, RefKind::kBuffer, named("ma_table"));
  const Bytes entries = words_at(object.address, table, (mask + 1) * entry.size_bytes / kWordBytes);
  std::uint64_t used = 0;
  for (std::size_t at = 0; at + entry.size_bytes <= entries.size(); at += entry.size_bytes) {
    const Addr key = word(entries, at + entry.me_key.offset);
    const Addr value = word(entries, at + entry.me_value.offset);
    // The place of a key that is gone holds, and counts, what stands for it.
    if (value == 0) {
      if (key != 0) visit(key, RefKind::kOwned, named("deleted key"));
      continue;
    }
    ++used;
    visit(value, plan.inner, EdgeName{What::kDictValue, "", key});
    visit(key, plan.inner, EdgeName{What::kDictKey, "", key});
  }
  if (used != field(bytes, layout_.PyDictObject.ma_used))
    damaged(object.address, "a dict does not hold as many values as it says");
  if (plan.kind == Kind::kDefaultDict)
    visit(field(bytes, layout_.defdictobject.default_factory), plan.inner, named("default_factory"));
}

bool ReferenceReader::is_set_dummy(Addr key, std::uint64_t hash) {
  if (layout_.PyASCIIObject.size_bytes != 0) return hash == ~std::uint64_t{0};
  constexpr std::string_view kDummy = "<dummy key>";
  std::uint64_t length = 0;
  std::uint64_t own_hash = 0;
  if (!elsewhere_.try_load(key + layout_.PyVarObject.ob_size.offset, length) || length != kDummy.size() ||
      !elsewhere_.try_load(key + layout_.PyStringObject.ob_shash.offset, own_hash) || own_hash == hash) {
    return false;
  }
  const Bytes text = elsewhere_.span(key + layout_.PyStringObject.ob_sval.offset, kDummy.size());
  return !text.empty() && std::memcmp(text.data(), kDummy.data(), kDummy.size()) == 0;
}

std::span<const std::byte> ReferenceReader::instance_values(const ObjectView& object, const ReferencePlan& plan,
                                                            Bytes bytes, const Sink& visit) {
  const Addr dict_at = object.address - traits_.gc_head_bytes() - kWordBytes;
  const auto& fields = layout_.PyDictValues;
  Addr dict = 0;
  Addr values = 0;
  elsewhere_.try_load(dict_at, dict);
  switch (plan.values) {
    case ReferencePlan::Values::kNone:
      break;
    case ReferencePlan::Values::kPointer:
      elsewhere_.try_load(dict_at - kWordBytes, values);
      break;
    case ReferencePlan::Values::kTaggedPointer:
      if ((dict & 1) != 0) {
        values = dict + 1;
        dict = 0;
      }
      break;
    case ReferencePlan::Values::kInline: {
      // While the values are valid, a dict has no others, and is not visited.
      Bytes header;
      if (plan.names != 0 && plan.basicsize + fields.size_bytes <= bytes.size()) header = bytes.subspan(plan.basicsize);
      const std::uint64_t capacity = field(header, fields.capacity);
      const bool valid =
          field(header, fields.valid) != 0 && fields.values.offset + capacity * kWordBytes <= header.size();
      if (dict != 0 && traits_.dict_visits_inline_values) {
        visit(dict, plan.inner, named("__dict__"));
        return {};
      }
      visit(dict, valid ? RefKind::kOwned : plan.inner, named("__dict__"));
      if (!valid) return {};
      return header.subspan(fields.values.offset, capacity * kWordBytes);
    }
  }
  visit(dict, plan.inner, named("__dict__"));
  if (values == 0) return {};
  std::uint8_t prefix = 0;
  elsewhere_.try_load(values - 1, prefix);
  visit(values - prefix, RefKind::kBuffer, named("values"));
  return words_at(object.address, values, plan.value_count);
}

void ReferenceReader::visit_deque(const ObjectView& object, const ReferencePlan& plan, Bytes bytes, const Sink& visit) {
  const auto& fields = layout_.dequeobject;
  const auto& block = layout_.BLOCK;
  const std::uint64_t block_items = block.data.width_bytes / kWordBytes;
  const Addr first = field(bytes, fields.leftblock);
  Addr at = first;
  Addr previous = 0;
  std::uint64_t index = field(bytes, fields.leftindex);
  const std::uint64_t length = field(bytes, fields.len.present() ? fields.len : layout_.PyVarObject.ob_size);
  // A block is there even where there is no item.
  std::uint64_t done = 0;
  for (; at != 0 && block_items != 0; index = 0) {
    const Bytes words = elsewhere_.span(at, block.size_bytes);
    // Blocks that are linked both ways and do not lead back to the first are no circle.
    const bool linked = previous == 0 || (at != first && field(words, block.leftlink) == previous);
    if (words.empty() || index > block_items || !linked)
      return damaged(object.address, "a deque's list of blocks breaks off");
    visit(at, RefKind::kBuffer, named("block"));
    for (; index < block_items && done < length; ++index, ++done)
      visit(word(words, block.data.offset + index * kWordBytes), plan.inner, EdgeName{What::kItem, "", done});
    if (done >= length) break;
    previous = at;
    at = field(words, block.rightlink);
  }
  if (done < length) damaged(object.address, "a deque does not hold as many items as it says");
  const std::uint64_t kept =
      std::min<std::uint64_t>(field(bytes, fields.numfreeblocks), fields.freeblocks.width_bytes / kWordBytes);
  for (std::uint64_t i = 0; i < kept && fields.freeblocks.offset + (i + 1) * kWordBytes <= bytes.size(); ++i)
    visit(word(bytes, fields.freeblocks.offset + i * kWordBytes), RefKind::kBuffer, named("freeblock"));
}

// Characters that do not lie in the object, and the caches of other forms. PyASCIIObject.state: bit 5 compact, 6 ascii.
void ReferenceReader::visit_str(const ObjectView& object, Bytes bytes, const Sink& visit) {
  if (layout_.PyASCIIObject.size_bytes == 0) {  // 2.7
    visit(field(bytes, layout_.PyUnicodeObject.str), RefKind::kBuffer, named("str"));
    return visit(field(bytes, layout_.PyUnicodeObject.defenc), RefKind::kOwned, named("defenc"));
  }
  const auto state = static_cast<std::uint32_t>(field(bytes, layout_.PyASCIIObject.state));
  const bool compact = (state >> 5 & 1) != 0;
  const bool ascii = (state >> 6 & 1) != 0;
  Addr data = object.address + (ascii ? layout_.PyASCIIObject.size_bytes : layout_.PyCompactUnicodeObject.size_bytes);
  const Addr wide = field(bytes, layout_.PyASCIIObject.wstr);
  if (!compact) {
    data = field(bytes, layout_.PyUnicodeObject.data);
    visit(data, RefKind::kBuffer, named("data"));
  }
  if (wide != data) visit(wide, RefKind::kBuffer, named("wstr"));
  if (compact && ascii) return;
  const Addr utf8 = field(bytes, layout_.PyCompactUnicodeObject.utf8);
  if (utf8 != data) visit(utf8, RefKind::kBuffer, named("utf8"));
}

bool ReferenceReader::is_capsule(Addr object) {
  Addr type = 0;
  if (!elsewhere_.try_load(object + layout_.PyObject.ob_type.offset, type)) return false;
  if (type == capsule_type_) return true;
  const TypeBrief brief = types_.classify(type);
  if (brief.id == kNoType || types_.shared_info(brief.id).name != "PyCapsule") return false;
  capsule_type_ = type;
  return true;
}

void ReferenceReader::visit_ndarray(const ObjectView& object, Bytes bytes, const Sink& visit) {
  const Addr data = field(bytes, kNdData);
  const Addr descr = field(bytes, kNdDescr);
  visit(field(bytes, kNdBase), RefKind::kOwned, named("base"));
  visit(descr, RefKind::kOwned, named("dtype"));
  const Addr handler = field(bytes, kNdMemHandler);
  if (object.type.basicsize >= kNdMemHandler.offset + kWordBytes && handler != 0 && is_capsule(handler))
    visit(handler, RefKind::kOwned, named("mem_handler"));
  visit(field(bytes, kNdDimensions), RefKind::kBuffer, named("dimensions"));
  if ((field(bytes, kNdFlags) & kNumpyOwnsData) == 0) return;
  visit(data, RefKind::kBuffer, named("data"));
  char kind = 0;
  elsewhere_.try_load(descr + kDescrKind.offset, kind);
  const std::uint64_t dimensions = field(bytes, kNdCount);
  if ((kind != 'O' && kind != 'V') || dimensions > kMaxDimensions) return;
  std::uint64_t count = 1;
  for (std::uint64_t i = 0; i < dimensions; ++i) {
    std::uint64_t length = 0;
    elsewhere_.try_load(field(bytes, kNdDimensions) + i * kWordBytes, length);
    const auto product = checked_mul(count, length);
    if (!product || *product > kMaxChain) return damaged(object.address, "an array's dimensions are damaged");
    count = *product;
  }
  const ItemObjects in_item = objects_in_item(elsewhere_, traits_, descr);  // of 'O' one, at 0
  const std::uint64_t size = checked_mul(count, in_item.item_bytes).value_or(0);
  if (in_item.offsets.empty() || size / kWordBytes > kMaxChain) return;
  const char* const flat = dimensions == 1 ? "" : ".flat";
  const Bytes items = words_at(object.address, data, align_up(size, kWordBytes) / kWordBytes);
  for (std::uint64_t i = 0; i < count; ++i) {
    for (const std::uint64_t offset : in_item.offsets) {
      const std::uint64_t at = i * in_item.item_bytes + offset;
      if (at + kWordBytes > items.size()) return;
      const Addr target = word(items, at);
      if (target != 0) visit(target, RefKind::kOwned, EdgeName{What::kItem, flat, i});
    }
  }
}

// A bounded cache keeps its entries in a ring through the object itself.
void ReferenceReader::visit_lru_cache(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                      const Sink& visit) {
  const auto& fields = layout_.lru_cache_object;
  const auto& link = layout_.lru_list_elem;
  const Addr root = object.address + fields.root_prev.offset - link.prev.offset;
  Addr at = field(bytes, fields.root_next);
  std::uint64_t left = kMaxChain;
  Addr previous = root;
  while (at != 0 && at != root) {
    const Bytes words = elsewhere_.span(at, link.size_bytes);
    if (words.empty() || field(words, link.prev) != previous || left-- == 0)
      return damaged(object.address, "an lru_cache's ring breaks off");
    const Addr key = field(words, link.key);
    if (traits_.lru_links == LruLinks::kVisited) {
      visit(at, plan.inner, EdgeName{What::kDictValue, "", key});
    } else {
      visit(key, plan.inner, EdgeName{What::kDictKey, "", key});
      visit(field(words, link.result), plan.inner, EdgeName{What::kDictValue, "", key});
      visit(at, RefKind::kOwned, named("link"));
    }
    if (traits_.lru_links == LruLinks::kContentsAndTypeVisited)
      visit(field(words, layout_.PyObject.ob_type), plan.inner, named("lru_list_elem_type"));
    previous = at;
    at = field(words, link.next);
  }
}

// text and tail carry a flag in their lowest bit.
void ReferenceReader::visit_element(const ObjectView& object, const ReferencePlan& plan, Bytes bytes,
                                    const Sink& visit) {
  const auto& fields = layout_.ElementObject;
  const auto& more = layout_.ElementObjectExtra;
  visit(align_down(field(bytes, fields.text), kWordBytes), plan.inner, named("text"));
  visit(align_down(field(bytes, fields.tail), kWordBytes), plan.inner, named("tail"));
  const Addr extra = field(bytes, fields.extra);
  if (extra == 0) return;
  visit(extra, RefKind::kBuffer, named("extra"));
  const Bytes words = elsewhere_.span(extra, more.size_bytes);
  if (words.empty()) return damaged(object.address, "an element's children are not in the snapshot");
  visit(field(words, more.attrib), plan.inner, named("attrib"));
  const Addr children = field(words, more.children);
  if (children != extra + more._children.offset) visit(children, RefKind::kBuffer, named("children"));
  const Bytes items = words_at(object.address, children, field(words, more.length));
  for (std::uint64_t i = 0; i < items.size() / kWordBytes; ++i)
    visit(word(items, i * kWordBytes), plan.inner, EdgeName{What::kItem, "", i});
}

}  // namespace heapcore
