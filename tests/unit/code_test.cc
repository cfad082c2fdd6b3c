// code_references() on hand-assembled x86-64.
#include "coreparse/code.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string_view>
#include <vector>

namespace heapcore {
namespace {

constexpr Addr kFunction = 0x401000;

class Code {
 public:
  // Adds an instruction whose last `tail` bytes are a displacement or an immediate; returns the address behind it.
  Addr add(std::string_view bytes) {
    for (const char c : bytes) bytes_.push_back(static_cast<std::byte>(c));
    return kFunction + bytes_.size();
  }
  // The same, with a 32-bit displacement to `target` behind the opcode and `after` behind that.
  void add_relative(std::string_view opcode, Addr target, std::string_view after = "") {
    const Addr next = kFunction + bytes_.size() + opcode.size() + 4 + after.size();
    const auto displacement = static_cast<std::int32_t>(target - next);
    char text[4];
    std::memcpy(text, &displacement, sizeof text);
    add(opcode);
    add({text, sizeof text});
    add(after);
  }
  std::vector<CodeRef> references(std::uint32_t max_instructions) const {
    AddressSpace space;
    space.assign({{kFunction, kFunction + bytes_.size(), bytes_.data(), ByteState::kPresent, false}});
    Reader reader(space);
    return code_references(reader, kFunction, max_instructions);
  }

 private:
  std::vector<std::byte> bytes_;
};

void expect_reference(const CodeRef& actual, CodeRefKind kind, Addr target, std::uint32_t width,
                      std::uint32_t instruction) {
  SCOPED_TRACE(instruction);
  EXPECT_EQ(actual.kind, kind);
  EXPECT_EQ(actual.target, target);
  EXPECT_EQ(actual.width_bytes, width);
  EXPECT_EQ(actual.instruction, instruction);
}

TEST(CodeReferences, AreFoundInOrder) {
  using namespace std::string_view_literals;
  Code code;
  code.add("\xf3\x0f\x1e\xfa"sv);                           // 0  endbr64
  code.add_relative("\x48\x8d\x05"sv, 0x5000);              // 1  lea rax, [rip+..]
  code.add_relative("\x48\x8b\x0d"sv, 0x404010);            // 2  mov rcx, [rip+..]
  code.add_relative("\x8b\x15"sv, 0x404018);                // 3  mov edx, [rip+..]
  code.add_relative("\x48\x89\x3d"sv, 0x404020);            // 4  mov [rip+..], rdi
  code.add_relative("\xc7\x05"sv, 0x404028, "\1\0\0\0"sv);  // 5  mov dword [rip+..], 1
  code.add_relative("\x48\x3b\x05"sv, 0x404030);            // 6  cmp rax, [rip+..]
  code.add_relative("\x80\x3d"sv, 0x404038, "\0"sv);        // 7  cmp byte [rip+..], 0
  code.add_relative("\xe8"sv, 0x400800);                    // 8  call
  code.add("\x48\x8b\x07"sv);                               // 9  mov rax, [rdi]: nowhere fixed
  code.add("\x64\x48\x8b\x04\x25\x28\0\0\0"sv);             // 10 mov rax, fs:[0x28]: thread-local
  code.add("\x48\x8b\x04\x25\x40\x40\x40\0"sv);             // 11 mov rax, [0x404040]
  code.add("\x74\x02"sv);                                   // 12 je: conditional, not reported
  code.add_relative("\xe9"sv, 0x7fff0000);                  // 13 jmp
  const std::vector<CodeRef> found = code.references(100);
  ASSERT_EQ(found.size(), 10U);
  expect_reference(found[0], CodeRefKind::kAddress, 0x5000, 0, 1);
  expect_reference(found[1], CodeRefKind::kLoad, 0x404010, 8, 2);
  expect_reference(found[2], CodeRefKind::kLoad, 0x404018, 4, 3);
  expect_reference(found[3], CodeRefKind::kStore, 0x404020, 8, 4);
  expect_reference(found[4], CodeRefKind::kStore, 0x404028, 4, 5);
  expect_reference(found[5], CodeRefKind::kCompare, 0x404030, 8, 6);
  expect_reference(found[6], CodeRefKind::kCompare, 0x404038, 1, 7);
  expect_reference(found[7], CodeRefKind::kCall, 0x400800, 0, 8);
  expect_reference(found[8], CodeRefKind::kLoad, 0x404040, 8, 11);
  expect_reference(found[9], CodeRefKind::kJump, 0x7fff0000, 0, 13);
}

TEST(CodeReferences, EndAtTheirLimitAtPaddingAndAtTheEdge) {
  using namespace std::string_view_literals;
  Code code;
  for (int i = 0; i < 5; ++i) code.add_relative("\x48\x8b\x05"sv, 0x404010);
  EXPECT_EQ(code.references(3).size(), 3U);
  EXPECT_EQ(code.references(0).size(), 0U);
  EXPECT_EQ(code.references(~0U).size(), 5U);
  code.add("\xcc"sv);  // int3
  code.add_relative("\x48\x8b\x05"sv, 0x404010);
  EXPECT_EQ(code.references(100).size(), 5U);

  Code cut;
  cut.add_relative("\x48\x8b\x05"sv, 0x404010);
  cut.add("\x48\x8b\x05\x01"sv);  // and the page ends inside the next
  EXPECT_EQ(cut.references(100).size(), 1U);

  Code bad;
  bad.add("\x06\x06\x06"sv);  // no instructions in 64-bit mode
  EXPECT_EQ(bad.references(100).size(), 0U);
  const AddressSpace empty;
  Reader nothing(empty);
  EXPECT_TRUE(code_references(nothing, kFunction, 10).empty());
}

}  // namespace
}  // namespace heapcore
