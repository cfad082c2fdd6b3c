#include "coreparse/code.h"

#include <capstone/capstone.h>

#include <algorithm>

namespace heapcore {
namespace {

constexpr std::size_t kMaxInstructionBytes = 15;

CodeRefKind kind_of(unsigned id, const cs_x86& detail, const cs_x86_op& memory) {
  switch (id) {
    case X86_INS_LEA:
      return CodeRefKind::kAddress;
    case X86_INS_CMP:
    case X86_INS_TEST:
      return CodeRefKind::kCompare;
    default:
      break;
  }
  // The destination comes first.
  return &memory == &detail.operands[0] && detail.op_count > 1 ? CodeRefKind::kStore : CodeRefKind::kLoad;
}

// The references of one decoded instruction.
void add_references(const cs_insn& insn, std::uint32_t index, std::vector<CodeRef>& out) {
  const cs_x86& detail = insn.detail->x86;
  for (std::uint8_t i = 0; i < detail.op_count; ++i) {
    const cs_x86_op& operand = detail.operands[i];
    if (operand.type == X86_OP_IMM && (insn.id == X86_INS_JMP || insn.id == X86_INS_CALL)) {
      out.push_back(
          {insn.id == X86_INS_JMP ? CodeRefKind::kJump : CodeRefKind::kCall, static_cast<Addr>(operand.imm), 0, index});
    }
    if (operand.type != X86_OP_MEM) continue;
    const bool rip_relative = operand.mem.base == X86_REG_RIP && operand.mem.index == X86_REG_INVALID;
    const bool absolute = operand.mem.base == X86_REG_INVALID && operand.mem.index == X86_REG_INVALID &&
                          operand.mem.segment == X86_REG_INVALID;
    if (!rip_relative && !absolute) continue;
    const Addr target = static_cast<Addr>(operand.mem.disp) + (rip_relative ? insn.address + insn.size : 0);
    const CodeRefKind kind = kind_of(insn.id, detail, operand);
    out.push_back({kind, target, kind == CodeRefKind::kAddress ? 0U : operand.size, index});
  }
}

}  // namespace

std::vector<CodeRef> code_references(Reader& reader, Addr function, std::uint32_t max_instructions) {
  std::vector<CodeRef> result;
  csh handle = 0;
  if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK) return result;
  cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
  cs_insn* insn = cs_malloc(handle);
  std::span<const std::byte> bytes = reader.span_to_end(function);
  bytes = bytes.first(std::min<std::size_t>(bytes.size(), max_instructions * kMaxInstructionBytes));
  const auto* code = reinterpret_cast<const std::uint8_t*>(bytes.data());
  std::size_t size = bytes.size();
  Addr address = function;
  for (std::uint32_t index = 0; index < max_instructions; ++index) {
    if (!cs_disasm_iter(handle, &code, &size, &address, insn) || insn->id == X86_INS_INT3) break;
    add_references(*insn, index, result);
  }
  cs_free(insn, 1);
  cs_close(&handle);
  return result;
}

}  // namespace heapcore
