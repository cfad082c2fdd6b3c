#include "coreparse/native_stack.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace heapcore {
namespace {

// Places in struct user_regs_struct of x86-64 of DWARF's registers 0 to 16: rax rdx rcx rbx rsi rdi rbp rsp r8-r15 rip.
constexpr std::size_t kUserRegs[] = {10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16};
constexpr unsigned kStackPointer = 7;  // as DWARF numbers them
constexpr pid_t kAnyPid = 1;           // libdw wants one; it only hands it back

struct DwflDelete {
  void operator()(Dwfl* dwfl) const { dwfl_end(dwfl); }
};

}  // namespace

struct NativeUnwinder::State {
  explicit State(const Snapshot& of) : snapshot(of), reader(of.space) {}

  const Snapshot& snapshot;
  Reader reader;
  std::unique_ptr<Dwfl, DwflDelete> dwfl;
  bool attached = false;
  NativeStack* stack = nullptr;  // while one is unwound

  // ---- what libdw calls; `arg` is the State.

  static int find_no_elf(Dwfl_Module*, void**, const char*, Dwarf_Addr, char**, Elf**) { return -1; }

  // The separate debug file that the snapshot found by build-id, or none. libdw's own search would ask the network.
  static int find_debug_file(Dwfl_Module*, void** userdata, const char*, Dwarf_Addr, const char*, const char*,
                             GElf_Word, char** path) {
    const auto* module = static_cast<const Module*>(*userdata);
    if (module == nullptr || module->debug_file.empty()) return -1;
    const int fd = open(module->debug_file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) *path = strdup(module->debug_file.c_str());
    return fd;
  }

  static State& of(void* arg) { return *static_cast<State*>(arg); }

  static pid_t next_thread(Dwfl*, void* arg, void** thread_arg) {
    const std::vector<Thread>& threads = of(arg).snapshot.threads;
    const auto* last = static_cast<const Thread*>(*thread_arg);
    const Thread* next = last == nullptr ? threads.data() : last + 1;
    if (next == threads.data() + threads.size()) return 0;
    *thread_arg = const_cast<Thread*>(next);
    return next->tid;
  }

  static bool get_thread(Dwfl*, pid_t tid, void* arg, void** thread_arg) {
    for (const Thread& thread : of(arg).snapshot.threads) {
      if (thread.tid != tid) continue;
      *thread_arg = const_cast<Thread*>(&thread);
      return true;
    }
    return false;
  }

  static bool read_memory(Dwfl*, Dwarf_Addr address, Dwarf_Word* result, void* arg) {
    std::uint64_t word = 0;
    if (!of(arg).reader.try_load(address, word)) return false;
    *result = word;
    return true;
  }

  static bool set_registers(Dwfl_Thread* dwfl_thread, void* thread_arg) {
    const auto* thread = static_cast<const Thread*>(thread_arg);
    Dwarf_Word registers[std::size(kUserRegs)];
    for (std::size_t i = 0; i < std::size(kUserRegs); ++i) registers[i] = thread->user_regs[kUserRegs[i]];
    return dwfl_thread_state_registers(dwfl_thread, 0, std::size(kUserRegs), registers);
  }

  static int add_frame(Dwfl_Frame* frame, void* arg) {
    State& state = of(arg);
    Dwarf_Addr pc = 0;
    bool is_activation = false;
    if (!dwfl_frame_pc(frame, &pc, &is_activation)) return DWARF_CB_ABORT;
    NativeFrame described = state.describe(pc, is_activation);
    Dwarf_Word sp = 0;
    if (dwfl_frame_reg(frame, kStackPointer, &sp) == 0) described.sp = sp;
    state.stack->frames.push_back(std::move(described));
    return state.stack->frames.size() < kMaxNativeFrames ? DWARF_CB_OK : DWARF_CB_ABORT;
  }

  // A return address may be the first byte of what follows the call.
  NativeFrame describe(Addr pc, bool is_activation) const {
    const Addr within = is_activation ? pc : pc - 1;
    NativeFrame frame;
    frame.pc = pc;
    if (const Module* module = snapshot.module_at(within)) frame.module = module->name();
    Dwfl_Module* module = dwfl_addrmodule(dwfl.get(), within);
    const char* name = module == nullptr ? nullptr : dwfl_module_addrname(module, within);
    if (name != nullptr) frame.function = name;
    return frame;
  }

  void report_modules() {
    static const Dwfl_Callbacks kCallbacks = {find_no_elf, find_debug_file, nullptr, nullptr};
    dwfl.reset(dwfl_begin(&kCallbacks));
    if (dwfl == nullptr) return;
    dwfl_report_begin(dwfl.get());
    for (const Module& module : snapshot.modules) {
      if (module.file.empty()) continue;
      Dwfl_Module* reported =
          dwfl_report_elf(dwfl.get(), module.path.c_str(), module.file.c_str(), -1, module.load_bias, true);
      void** userdata = nullptr;
      if (reported == nullptr) continue;
      dwfl_module_info(reported, &userdata, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
      *userdata = const_cast<Module*>(&module);
    }
    dwfl_report_end(dwfl.get(), nullptr, nullptr);
    static const Dwfl_Thread_Callbacks kThreadCallbacks = {next_thread,   get_thread, read_memory,
                                                           set_registers, nullptr,    nullptr};
    attached = dwfl_attach_state(dwfl.get(), nullptr, kAnyPid, &kThreadCallbacks, this);
  }
};

NativeUnwinder::NativeUnwinder(const Snapshot& snapshot) : state_(std::make_unique<State>(snapshot)) {
  state_->report_modules();
}

NativeUnwinder::~NativeUnwinder() = default;

NativeStack NativeUnwinder::unwind(const Thread& thread) {
  NativeStack stack;
  if (!state_->attached) {
    stack.cut_short = "no file of the target's is at hand to unwind with";
    return stack;
  }
  state_->stack = &stack;
  dwfl_errno();  // forget earlier ones
  const int result = dwfl_getthread_frames(state_->dwfl.get(), thread.tid, State::add_frame, state_.get());
  state_->stack = nullptr;
  if (stack.frames.size() >= kMaxNativeFrames) {
    stack.cut_short = "it has more frames than are followed";
  } else if (result != 0) {
    const char* message = dwfl_errmsg(-1);
    stack.cut_short = message == nullptr ? "no call frame information" : message;
  }
  return stack;
}

}  // namespace heapcore
