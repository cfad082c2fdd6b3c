// Where a layout comes from, and that one which does not fit is noticed.
#include "pyobj/layout_origin.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "py_builder.h"
#include "pyobj/debug_offsets.h"
#include "pyobj/runtime_search.h"

namespace heapcore::testing {
namespace {

constexpr Addr kState = 0x7f2000000000;
constexpr PyVersion kVersion{0x030d05f0, true};

// _PyRuntime of a 3.13.5 whose _Py_DebugOffsets says what the table says.
class FakeOffsets : public FakeProcess {
 public:
  FakeOffsets() {
    add_memory(kState, 4096, "");
    put(kState, kDebugOffsetsCookie);
    PyLayout copy = layout;
    for (const CarriedField& field : carried_fields()) {
      const Field& entry = field.entry(layout);
      if (entry.present()) put(kState + entry.offset, field.place(copy).offset);
    }
  }
  void say(const Field& entry, std::uint64_t offset) { put(kState + entry.offset, offset); }
  std::vector<LayoutChoice> choices() {
    const Snapshot made = snapshot();
    Reader reader(made.space);
    return table_choices(kVersion, reader, kState);
  }

  const PyLayout& layout = *traits_for(kVersion)->layout;
};

TEST(LayoutOrigin, DebugOffsetsThatAgreeAreUsedAsTheyAre) {
  FakeOffsets offsets;
  const std::vector<LayoutChoice> choices = offsets.choices();
  ASSERT_FALSE(choices.empty());
  EXPECT_TRUE(choices[0].origin.debug_offsets);
  EXPECT_EQ(choices[0].origin.own, nullptr);
  EXPECT_EQ(choices[0].traits.layout, &offsets.layout);
  std::string sysdict;
  std::string generations;
  for (const FieldOrigin& field : describe_layout(choices[0].traits, choices[0].origin)) {
    const std::string name = std::string(field.structure) + "." + field.field;
    if (name == "PyInterpreterState.sysdict") sysdict = field.source;
    if (name == "PyInterpreterState.gc_generations") generations = field.source;
    EXPECT_EQ(field.place, field.in_table) << name;
  }
  EXPECT_EQ(sysdict, "_Py_DebugOffsets");
  EXPECT_EQ(generations, "table 3.13.5");
}

TEST(LayoutOrigin, DebugOffsetsThatDifferGoBeforeTheTable) {
  FakeOffsets offsets;
  const auto& entries = offsets.layout._Py_DebugOffsets;
  offsets.say(entries.interpreter_state_sysdict, 4096);
  offsets.say(entries.tuple_object_ob_item, std::uint64_t{1} << 40);  // no offset at all
  const std::vector<LayoutChoice> choices = offsets.choices();
  ASSERT_GE(choices.size(), 2U);
  EXPECT_EQ(choices[0].traits.layout->PyInterpreterState.sysdict.offset, 4096U);
  EXPECT_EQ(choices[0].traits.layout->PyTupleObject.ob_item, offsets.layout.PyTupleObject.ob_item);
  EXPECT_EQ(choices[1].traits.layout, &offsets.layout);
  EXPECT_FALSE(choices[1].origin.debug_offsets);
  std::size_t differing = 0;
  for (const FieldOrigin& field : describe_layout(choices[0].traits, choices[0].origin)) {
    if (field.place == field.in_table) continue;
    ++differing;
    EXPECT_STREQ(field.field, "sysdict");
    EXPECT_EQ(field.source, "_Py_DebugOffsets");
  }
  EXPECT_EQ(differing, 1U);
}

TEST(LayoutOrigin, WithoutTheCookieNothingIsCarried) {
  FakeOffsets offsets;
  offsets.put(kState, 1);
  for (const LayoutChoice& choice : offsets.choices()) EXPECT_FALSE(choice.origin.debug_offsets);
}

TEST(LayoutOrigin, NoDwarfNoChoice) {
  Module module;
  module.file = "/nonexistent";
  module.build_id = {std::byte{1}};
  EXPECT_TRUE(dwarf_choices(kVersion, module).empty());
  EXPECT_FALSE(layout_of_python_debug_file("/proc/self/exe", "00"));
}

// A build whose field lies elsewhere than any table has it must not be read as if it lay there.
TEST(LayoutOrigin, AFieldThatMovedIsNoticed) {
  const PyLayout& layout = *traits_for({0x030b07f0, true})->layout;
  const auto complete = [](const PyLayout& written) {
    FakePython python(kPieBase, &written);
    Findings findings;
    const PythonState state = find_python(python.snapshot(), findings);
    return state.runtime && !state.runtime->interpreters.empty() && !findings.incomplete();
  };
  EXPECT_TRUE(complete(layout));
  const auto noticed = [&](auto&& field_of) {
    PyLayout moved = layout;
    field_of(moved).offset += 8;
    return !complete(moved);
  };
  EXPECT_TRUE(noticed([](PyLayout& l) -> Field& { return l.PyObject.ob_type; }));
  EXPECT_TRUE(noticed([](PyLayout& l) -> Field& { return l.PyTypeObject.tp_flags; }));
  EXPECT_TRUE(noticed([](PyLayout& l) -> Field& { return l.PyInterpreterState.threads_head; }));
  EXPECT_TRUE(noticed([](PyLayout& l) -> Field& { return l.PyInterpreterState.gc_generations; }));
  EXPECT_TRUE(noticed([](PyLayout& l) -> Field& { return l.PyThreadState.interp; }));
  EXPECT_TRUE(noticed([](PyLayout& l) -> Field& { return l._PyRuntimeState.interpreters_head; }));
}

}  // namespace
}  // namespace heapcore::testing
