// Finding the runtime in a module that has nothing but memory: its symbols, interpreters and arenas.
#include "pyobj/runtime.h"

#include <gtest/gtest.h>

#include "py_builder.h"

namespace heapcore::testing {
namespace {

PythonState find(FakePython& python, Findings& findings) {
  return find_python(python.snapshot(), findings);
}

void two_arenas(FakePython& python) {
  for (std::uint32_t i = 0; i < 2; ++i) {
    python.arena(kFirstArena + i * 2 * kArenaBytes);
    python.block(python.pool(i, 64));
  }
}

TEST(Runtime, IsFoundBySymbols) {
  FakePython python;
  two_arenas(python);
  const Addr second = python.add_interpreter(1);
  Findings findings;
  const PythonState state = find(python, findings);
  EXPECT_TRUE(findings.kept().empty()) << findings.kept()[0].detail;
  EXPECT_EQ(state.version, "3.11.7");
  ASSERT_TRUE(state.runtime);
  EXPECT_EQ(state.runtime->type_type, python.type_type);
  EXPECT_EQ(state.runtime->module_path, FakePython::kPath);
  ASSERT_EQ(state.runtime->interpreters.size(), 2U);
  EXPECT_EQ(state.runtime->interpreters[0].address, second);
  EXPECT_EQ(state.runtime->interpreters[0].id, 1);
  EXPECT_EQ(state.runtime->interpreters[1].address, python.interpreter);
  EXPECT_TRUE(state.runtime->interpreters[1].gc_enabled);
  ASSERT_TRUE(state.runtime->arenas);
  EXPECT_EQ(state.runtime->arenas->address, kArenaTable);
  EXPECT_EQ(state.runtime->arenas->count, kMaxArenaObjects);
  EXPECT_EQ(state.runtime->arenas->located_by, "symbol arenas");
}

TEST(Runtime, ArenasAreFoundByStructureWhereTheirSymbolsAreGone) {
  FakePython python;
  two_arenas(python);
  python.remove_symbol("arenas");
  python.remove_symbol("maxarenas");
  Findings findings;
  const PythonState state = find(python, findings);
  EXPECT_TRUE(findings.kept().empty());
  ASSERT_TRUE(state.runtime && state.runtime->arenas);
  EXPECT_EQ(state.runtime->arenas->address, kArenaTable);
  EXPECT_EQ(state.runtime->arenas->count, kMaxArenaObjects);
  EXPECT_EQ(state.runtime->arenas->located_by, "structure");
}

TEST(Runtime, SymbolsThatLeadElsewhereAreNotBelieved) {
  FakePython python;
  two_arenas(python);
  python.symbol("arenas", python.data(16));
  Findings findings;
  const PythonState state = find(python, findings);
  ASSERT_TRUE(state.runtime && state.runtime->arenas);
  EXPECT_EQ(state.runtime->arenas->located_by, "structure");
}

TEST(Runtime, WithoutArenasTheRestStillAnswers) {
  FakePython python;
  Findings findings;
  const PythonState state = find(python, findings);
  ASSERT_TRUE(state.runtime);
  EXPECT_FALSE(state.runtime->arenas);
  EXPECT_EQ(findings.count("obmalloc-not-found"), 1U);
  EXPECT_EQ(state.runtime->interpreters.size(), 1U);
}

TEST(Runtime, NoPythonIsNoFinding) {
  FakePython python;
  python.remove_symbol("PyType_Type");
  python.put(python.type_type + python.layout().PyObject.ob_type.offset, 0);
  Findings findings;
  const PythonState state = find(python, findings);
  EXPECT_FALSE(state.runtime);
  EXPECT_TRUE(state.version.empty());
  EXPECT_TRUE(findings.kept().empty());
}

// ---- From the core alone: no symbol, nothing of the file.

TEST(Runtime, IsFoundByItsStructureWhereNothingNamesIt) {
  FakePython python;
  two_arenas(python);
  const Addr second = python.add_interpreter(1);
  python.remove_all_symbols();
  Findings findings;
  const PythonState state = find(python, findings);
  EXPECT_TRUE(findings.kept().empty()) << findings.kept()[0].detail;
  EXPECT_EQ(state.version, "3.11");
  ASSERT_TRUE(state.runtime);
  EXPECT_EQ(state.runtime->located_by, "structure");
  EXPECT_EQ(state.runtime->type_type, python.type_type);
  EXPECT_EQ(state.runtime->state, python.runtime_state());
  ASSERT_EQ(state.runtime->interpreters.size(), 2U);
  EXPECT_EQ(state.runtime->interpreters[0].address, second);
  ASSERT_TRUE(state.runtime->arenas);
  EXPECT_EQ(state.runtime->arenas->address, kArenaTable);
}

TEST(Runtime, WhatOnlyLooksLikeATypeIsNotTakenForOne) {
  const auto& fields = FakePython().layout();
  const auto found = [&](const auto& damage) {
    FakePython python;
    python.remove_all_symbols();
    damage(python);
    Findings findings;
    return find(python, findings).runtime.has_value();
  };
  EXPECT_TRUE(found([](FakePython&) {}));
  EXPECT_FALSE(found([&](FakePython& p) { p.put(p.type_type + fields.PyTypeObject.tp_flags.offset, 0); }));
  EXPECT_FALSE(found([&](FakePython& p) { p.put(p.type_type + fields.PyTypeObject.tp_base.offset, p.int_type); }));
  EXPECT_FALSE(found([&](FakePython& p) { p.put(p.type_type + fields.PyTypeObject.tp_base.offset, p.data(512)); }));
  EXPECT_FALSE(found([&](FakePython& p) { p.put(p.object_type + fields.PyTypeObject.tp_basicsize.offset, 24); }));
  // Another type derived from itself, of which `type` is not the type, comes first and is passed over.
  EXPECT_TRUE(found([&](FakePython& p) {
    const Addr list_head = p.base() + 0x4000 - 64;
    p.put(list_head, list_head);
    p.put(list_head + 8, list_head);
  }));
}

// Several variables point to interpreters; only one has the main interpreter's beside it.
TEST(Runtime, OtherVariablesThatPointToInterpretersAreNotTheList) {
  FakePython python;
  const Addr decoy = python.base() + 0x3f00;
  python.put(decoy, python.interpreter);
  python.put(decoy + 8, python.data(256));
  python.add_interpreter(1);
  python.remove_all_symbols();
  Findings findings;
  const PythonState state = find(python, findings);
  ASSERT_TRUE(state.runtime);
  EXPECT_EQ(state.runtime->state, python.runtime_state());
  EXPECT_EQ(state.runtime->interpreters.size(), 2U);
}

TEST(Runtime, AVersionItCannotReadIsRefusedAloud) {
  FakePython python;
  const Addr version = python.data(8);
  python.put(version, 0x03050af0);
  python.symbol("Py_Version", version);
  Findings findings;
  const PythonState state = find(python, findings);
  EXPECT_FALSE(state.runtime);
  EXPECT_TRUE(state.version.starts_with("3.5.10")) << state.version;
  EXPECT_EQ(findings.count("python-version-unsupported"), 1U);
}

TEST(Runtime, TheFilesNameTellsTheVersionWhereNothingElseDoes) {
  FakePython python;
  python.remove_symbol("Py_Version");
  Findings findings;
  const PythonState state = find(python, findings);
  ASSERT_TRUE(state.runtime);
  EXPECT_EQ(state.version, "3.11");
}

TEST(Runtime, ATypeThatIsNotItsOwnTypeIsRefused) {
  const auto refused = [](const auto& damage) {
    FakePython python;
    damage(python);
    Findings findings;
    const bool found = find(python, findings).runtime.has_value();
    EXPECT_EQ(findings.count("python-type-unverified"), found ? 0U : 1U);
    return !found;
  };
  const auto& fields = FakePython().layout();
  EXPECT_TRUE(refused([&](FakePython& p) { p.put(p.type_type + fields.PyObject.ob_type.offset, p.object_type); }));
  EXPECT_TRUE(refused([&](FakePython& p) { p.put(p.type_type + fields.PyTypeObject.tp_flags.offset, 0); }));
  EXPECT_TRUE(
      refused([&](FakePython& p) { p.put(p.type_type + fields.PyTypeObject.tp_name.offset, p.c_text("typo")); }));
  // Its name may lie in a part of the file that the snapshot lacks.
  EXPECT_FALSE(refused([&](FakePython& p) { p.put(p.type_type + fields.PyTypeObject.tp_name.offset, 0x10); }));
}

TEST(Runtime, DamagedInterpretersAreLeftOut) {
  const auto& fields = FakePython().layout().PyInterpreterState;
  const auto found = [&](const auto& damage, std::string_view code) {
    FakePython python;
    damage(python);
    Findings findings;
    const PythonState state = find(python, findings);
    EXPECT_EQ(findings.count(code), 1U) << code;
    return state.runtime ? state.runtime->interpreters.size() : 99;
  };
  // A thread of another interpreter.
  EXPECT_EQ(found([&](FakePython& p) { p.put(p.interpreter + fields.threads_head.offset, p.data(512)); },
                  "python-interpreter-damaged"),
            0U);
  // A generation whose first member does not point back.
  EXPECT_EQ(found([&](FakePython& p) { p.put(p.generation(1), p.data(32)); }, "python-interpreter-damaged"), 0U);
  // No symbol leads to it, and its dicts are none.
  EXPECT_EQ(found(
                [&](FakePython& p) {
                  p.remove_symbol("_PyRuntime");
                  p.put(p.interpreter + fields.sysdict.offset, p.data(64));
                },
                "python-runtime-not-found"),
            0U);
  // A list of interpreters that leads nowhere keeps what came before.
  EXPECT_EQ(
      found([&](FakePython& p) { p.put(p.interpreter + fields.next.offset, 0x10); }, "python-interpreter-damaged"), 1U);
}

TEST(Runtime, AnEndlessListOfInterpretersEnds) {
  FakePython python;
  python.put(python.interpreter + python.layout().PyInterpreterState.next.offset, python.interpreter);
  Findings findings;
  const PythonState state = find(python, findings);
  ASSERT_TRUE(state.runtime);
  EXPECT_EQ(state.runtime->interpreters.size(), 1U);
  EXPECT_EQ(findings.count("python-interpreter-damaged"), 1U);
}

}  // namespace
}  // namespace heapcore::testing
