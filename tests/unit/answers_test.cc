// The answers as JSON and text: the keys that are a contract, columns that align, and hostile names that break neither.
#include "report/answers.h"
#include "report/report_answers.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "py_builder.h"
#include "report/format.h"

namespace heapcore::testing {
namespace {

using Json = nlohmann::ordered_json;

// As the command line writes it; whatever is in it must come out as JSON again.
Json written(const Json& document) {
  return Json::parse(document.dump(2, ' ', false, Json::error_handler_t::replace));
}

void expect_keys(const Json& object, const std::vector<std::string>& keys) {
  for (const std::string& key : keys)
    EXPECT_TRUE(object.contains(key)) << key << " in " << object.dump().substr(0, 200);
}

void expect_counts(const Json& object, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    ASSERT_TRUE(object.contains(key)) << key;
    EXPECT_TRUE(object[key].is_number_integer()) << key;
  }
}

void expect_count_bytes(const Json& object) {
  expect_counts(object, {"count", "bytes"});
  EXPECT_EQ(object.size(), 2U);
}

void expect_address(const Json& value) {
  ASSERT_TRUE(value.is_string());
  const std::string text = value.get<std::string>();
  EXPECT_EQ(text.find_first_not_of("0123456789abcdef", 2), std::string::npos) << text;
  EXPECT_TRUE(text.starts_with("0x") && text.size() > 2) << text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// No control characters but the line ends.
void expect_harmless(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    ASSERT_TRUE(byte == '\n' || (byte >= 0x20 && byte != 0x7f)) << "byte " << i << " of " << text;
    const bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    ASSERT_FALSE(c1) << "byte " << i << " of " << text;
  }
}

const std::string kHostile[] = {
    "plain",
    "\x1b[2J\x1b]0;title\x07",
    "line\nline\rline\ttab",
    "\xc2\x9b"
    "2J",  // CSI as one C1 character
    "\x9b"
    "31m",  // and as one byte
    "\xff\xfe\x80 not UTF-8 \xc3",
    "\xc0\x80\xe0\x80\x80\xed\xa0\x80\xf5\x80\x80\x80",
    "\xe2\x80\xae"
    "reversed",
    "\"quotes\\ and {braces}\"",
    "\xce\xb1\xe2\x82\xac\xf0\x9f\x90\x8d",
    std::string("nul\0nul", 7),
};

TypeRows hostile_rows() {
  TypeRows rows;
  for (const std::string& name : kHostile) {
    rows.rows.push_back({0x1000, name, name, 0, 0, {12345, 1 << 20}});
    rows.total.count += 12345;
    rows.total.bytes += 1 << 20;
  }
  return rows;
}

// ---- JSON.

TEST(AnswersJson, Head) {
  FakePython python;
  Process process = python.process();
  process.snapshot.info.path = "core.1";
  process.snapshot.info.pid = 7458;
  process.snapshot.info.architecture = "x86_64";
  process.findings.add({"some-damage", Room::kPyobj, 0x7f00ABCD, "it is damaged"});
  process.findings.note("some-note", Room::kAnalysis, 0, "good to know");
  const Json head = written(document_head("types", process));
  expect_keys(head, {"schema", "heapcore", "command", "target", "warnings"});
  EXPECT_EQ(head["schema"], 1);
  EXPECT_EQ(head["command"], "types");
  expect_keys(head["target"], {"kind", "path", "pid", "executable", "architecture", "python", "libc"});
  EXPECT_EQ(head["target"]["kind"], "core");
  EXPECT_EQ(head["target"]["pid"], 7458);
  EXPECT_EQ(head["target"]["python"], "3.11.7");
  EXPECT_TRUE(head["target"]["libc"].is_null());
  ASSERT_EQ(head["warnings"].size(), 1U);
  expect_keys(head["warnings"][0], {"code", "message", "address"});
  EXPECT_EQ(head["warnings"][0]["code"], "some-damage");
  EXPECT_EQ(head["warnings"][0]["address"], "0x7f00abcd");
  process.python = {};
  process.snapshot.info.kind = TargetKind::kProcess;
  const Json live = written(document_head("types", process));
  EXPECT_TRUE(live["target"]["python"].is_null());
  EXPECT_EQ(live["target"]["kind"], "pid");
}

TEST(AnswersJson, Types) {
  TypeRows rows;
  rows.rows.push_back({0x7F0000ABC0, "__main__", "Node", 0, 0, {21000, 1008000}});
  rows.rows.push_back({0x1000, "", "other", 0, 0, {1, 1}});
  rows.total = {21001, 1008001};
  const Json all = written(types_json(rows, 0));
  ASSERT_EQ(all["types"].size(), 2U);
  const Json& first = all["types"][0];
  expect_keys(first, {"module", "name", "address", "count", "bytes"});
  EXPECT_EQ(first["module"], "__main__");
  EXPECT_EQ(first["name"], "Node");
  expect_address(first["address"]);
  EXPECT_EQ(first["count"], 21000);
  EXPECT_EQ(first["bytes"], 1008000);
  expect_count_bytes(all["total"]);
  // A limit shortens the list, not the total.
  const Json limited = written(types_json(rows, 1));
  EXPECT_EQ(limited["types"].size(), 1U);
  EXPECT_EQ(limited["total"]["count"], 21001);
  rows.by = GroupBy::kModule;
  EXPECT_FALSE(written(types_json(rows, 0))["types"][0].contains("address"));
  rows.by = GroupBy::kSize;
  expect_counts(written(types_json(rows, 0))["types"][0], {"size_from", "size_to", "count", "bytes"});
}

TEST(AnswersJson, Pymalloc) {
  FakePython python;
  python.arena(kFirstArena);
  python.block(python.pool(0, 64));
  Findings findings;
  const Json answer = written(pymalloc_json(summarise_obmalloc(python.snapshot(), python.runtime(), findings)));
  expect_counts(answer, {"arena_bytes", "pool_bytes"});
  ASSERT_EQ(answer["arenas"].size(), 1U);
  expect_address(answer["arenas"][0]["address"]);
  expect_counts(answer["arenas"][0], {"pools", "free_pools", "blocks_in_use", "bytes_in_use"});
  ASSERT_EQ(answer["classes"].size(), 1U);
  expect_counts(answer["classes"][0], {"block_bytes", "pools", "blocks_in_use", "blocks_free"});
  EXPECT_EQ(answer["classes"][0]["block_bytes"], 64);
  expect_counts(answer["total"], {"arenas", "bytes", "pools", "free_pools", "blocks_in_use", "bytes_in_use",
                                  "bytes_free", "bytes_overhead"});
}

TEST(AnswersJson, Malloc) {
  Heap heap;
  heap.located_by = "structure";
  heap.arenas.resize(1);
  heap.arenas[0].address = 0x7f0000001c60;
  heap.arenas[0].is_main = true;
  heap.arenas[0].totals.of(ChunkState::kInUse) = {1, 64};
  const Json answer = written(malloc_json(heap));
  expect_keys(answer, {"located_by", "arenas", "mmapped", "total", "trim"});
  ASSERT_EQ(answer["arenas"].size(), 1U);
  const Json& arena = answer["arenas"][0];
  expect_address(arena["address"]);
  EXPECT_EQ(arena["main"], true);
  expect_counts(arena, {"heaps", "system_bytes", "max_system_bytes", "top_bytes"});
  expect_count_bytes(arena["in_use"]);
  for (const char* kind : {"tcache", "fast", "unsorted", "small", "large"}) expect_count_bytes(arena["free"][kind]);
  expect_count_bytes(answer["mmapped"]);
  expect_counts(answer["trim"], {"releasable_bytes"});
}

TEST(AnswersJson, LedgerAndReport) {
  Ledger ledger;
  ledger.rows = {{"file", "/lib/x", 4096, 1024, {}}, {"anonymous", "", 100, 0, {{"dict", 60}}}};
  ledger.mapped_bytes = 4196;
  const Json answer = written(ledger_json(ledger));
  ASSERT_EQ(answer["ledger"].size(), 2U);
  expect_keys(answer["ledger"][0], {"category", "detail", "bytes", "not_dumped_bytes"});
  EXPECT_EQ(answer["ledger"][0]["not_dumped_bytes"], 1024);
  EXPECT_EQ(answer["total"]["mapped_bytes"], 4196);

  Process process;  // with nothing in it
  Incident incident;
  incident.ledger = ledger;
  const Json report = written(report_json(process, incident, 0));
  EXPECT_TRUE(report["findings"].is_array());
  EXPECT_TRUE(report["types"].is_null());
  EXPECT_TRUE(report["malloc"].is_null());
  EXPECT_FALSE(report_text(process, incident, {}).empty());
}

TEST(AnswersJson, HostileNamesComeOutAsJson) {
  const Json types = written(types_json(hostile_rows(), 0));
  EXPECT_EQ(types["types"].size(), std::size(kHostile));
  EXPECT_EQ(types["types"][1]["name"], kHostile[1]);  // what is UTF-8 is kept as it is
  Process process;
  Ledger ledger;
  for (const std::string& name : kHostile) {
    process.snapshot.info.path = process.snapshot.info.command = process.snapshot.info.executable = name;
    process.findings.add({"code", Room::kPyobj, 0, name});
    ledger.rows.push_back({"file", name, 1, 0, {{name, 1}}});
    static_cast<void>(written(document_head("report", process)));
  }
  EXPECT_EQ(written(ledger_json(ledger))["ledger"].size(), std::size(kHostile));
}

// ---- Text.

TEST(Format, Figures) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1024), "1.00 KiB");
  EXPECT_EQ(bytes_text(1536), "1.50 KiB");
  EXPECT_EQ(bytes_text(10 * 1024), "10.0 KiB");
  EXPECT_EQ(bytes_text(100 * 1024), "100 KiB");
  EXPECT_EQ(bytes_text((1 << 20) - 1), "1.00 MiB");
  EXPECT_EQ(bytes_text(std::uint64_t{3} << 30), "3.00 GiB");
  EXPECT_EQ(bytes_text(~std::uint64_t{0}), "16.0 EiB");
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1000), "1,000");
  EXPECT_EQ(count_text(12345678), "12,345,678");
  EXPECT_EQ(count_text(~std::uint64_t{0}), "18,446,744,073,709,551,615");
  EXPECT_EQ(percent_text(1, 0), "-");
  EXPECT_EQ(percent_text(1, 8), "12.5 %");
  EXPECT_EQ(address_text(0x7F3A10), "0x7f3a10");
}

TEST(Format, Printable) {
  EXPECT_EQ(printable("plain \xce\xb1\xe2\x82\xac\xf0\x9f\x90\x8d"), "plain \xce\xb1\xe2\x82\xac\xf0\x9f\x90\x8d");
  EXPECT_EQ(printable("\x1b[2J\n\x7f"), "\\x1b[2J\\x0a\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"
                      "2J"),
            "\\xc2\\x9b2J");
  EXPECT_EQ(printable("\x9b\xff\xc3"), "\\x9b\\xff\\xc3");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");
  EXPECT_EQ(printable("\xe2\x80\xae"), "\\xe2\\x80\\xae");
  EXPECT_EQ(printable("\xc2\xa0\xef\xbf\xbd"), "\xc2\xa0\xef\xbf\xbd");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  for (const std::string& name : kHostile) {
    expect_harmless(printable(name));
    EXPECT_NO_THROW(static_cast<void>(Json(printable(name)).dump()));  // always UTF-8
  }
}

TEST(Format, TablesAlign) {
  TextTable table({{"name", Align::kLeft}, {"n", Align::kRight}, {"last", Align::kLeft}});
  table.add({"a", "1", "x"});
  table.add({"\xce\xb1\xce\xb2\xce\xb3\xce\xb4\xce\xb5", "12345", ""});
  table.add({"", "99", "yy"});
  EXPECT_EQ(table.text("  "),
            "  name       n  last\n"
            "  a          1  x\n"
            "  \xce\xb1\xce\xb2\xce\xb3\xce\xb4\xce\xb5  12345\n"
            "            99  yy\n");
  TextTable untitled({{"", Align::kLeft}, {"", Align::kRight}});
  untitled.add({"x", "1"});
  EXPECT_EQ(untitled.text(), "x  1\n");
  EXPECT_EQ(TextTable({{"only", Align::kLeft}}).text(), "only\n");
}

TEST(AnswersText, TypesAlignWhateverTheirNames) {
  const std::vector<std::string> lines = lines_of(types_text(hostile_rows(), {false, 0}));
  ASSERT_EQ(lines.size(), 2 + std::size(kHostile));  // a title, and the total
  const std::size_t end_of_count = lines[0].find("count") + 5;
  const std::size_t end_of_share = lines[0].find("share") + 5;
  for (const std::string& line : lines) {
    expect_harmless(line);
    ASSERT_GT(line.size(), end_of_share);
    EXPECT_NE(line[end_of_count - 1], ' ') << line;
    EXPECT_EQ(line[end_of_count], ' ') << line;
    EXPECT_NE(line[end_of_share - 1], ' ') << line;
    EXPECT_EQ(line[end_of_share], ' ') << line;
    EXPECT_NE(line.back(), ' ') << line;
  }
}

TEST(AnswersText, ALimitSaysWhatItLeavesOut) {
  const std::string text = types_text(hostile_rows(), {false, 3});
  const std::vector<std::string> lines = lines_of(text);
  ASSERT_EQ(lines.size(), 6U);
  EXPECT_NE(lines[4].find("(8 more)"), std::string::npos) << lines[4];
  EXPECT_NE(lines[4].find("98,760"), std::string::npos) << lines[4];
  EXPECT_NE(lines[5].find("135,795"), std::string::npos) << lines[5];
  EXPECT_EQ(types_text({}, {}), "no Python objects\n");
}

TEST(AnswersText, HostileNamesMoveNoCursor) {
  Ledger ledger;
  Process process;
  for (const std::string& name : kHostile) {
    ledger.rows.push_back({"file", name, 4096, 1, {{name, 1}}});
    ledger.mapped_bytes += 4096;
    process.snapshot.info.path = process.snapshot.info.command = process.snapshot.info.executable = name;
    process.findings.add({"code", Room::kPyobj, 0x1000, name});
    Incident incident;
    incident.ledger = ledger;
    for (const std::string& text : {ledger_text(ledger, {}), warnings_text(process.findings),
                                    report_text(process, incident, {}), types_text(hostile_rows(), {})}) {
      for (const std::string& line : lines_of(text)) expect_harmless(line);
    }
    process.python.version = "unknown";
    process.malloc.why_not = name;
    for (const std::string& line : lines_of(report_text(process, incident, {}))) expect_harmless(line);
  }
  // Colour is asked for, then there are escapes, and ours only.
  EXPECT_NE(report_text(process, Incident(), {true, 20}).find("\x1b[1m"), std::string::npos);
}

}  // namespace
}  // namespace heapcore::testing
