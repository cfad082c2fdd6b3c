"""From the core alone: the zoo's cores with the files of the interpreter and of the C library hidden.

All that test_zoo.py asks, it asks here again, of gcore's core and of the kernel's (coredump_filter 0x33, which leaves
out constants and symbols), with --sysroot naming an empty folder; and of a program whose name does not say which Python
it is and which is gone when its core is read.
"""

import os
import shutil
import subprocess

import harness
import test_zoo

# Static types that no module holds and that have no attribute of their own: nothing in a core says what they are called.
# Their objects are counted, and with their right size.
NAMELESS = {("builtins", "managedbuffer"), ("builtins", "hamt"), ("builtins", "hamt_bitmap_node"),
            ("builtins", "hamt_array_node"), ("builtins", "stderrprinter"), ("", "Token.MISSING"),
            ("Token", "MISSING"), ("functools", "_lru_list_elem"), ("_thread", "_localdummy"), ("_sre", "SRE_Match"),
            ("__builtin__", "iterator"), ("__builtin__", "listiterator"), ("__builtin__", "listreverseiterator"),
            ("__builtin__", "tupleiterator"), ("__builtin__", "rangeiterator"),
            ("__builtin__", "dictionary-keyiterator"), ("imp", "NullImporter"),
            ("__builtin__", "dict_keys"), ("__builtin__", "dict_values"), ("__builtin__", "dict_items"),  # of 2.7
            ("_asyncio", "FutureIter"), ("builtins", "TaskStepMethWrapper"), ("builtins", "TaskWakeupMethWrapper"),
            ("builtins", "_RunningLoopHolder"), ("builtins", "asyncgen_hooks")}
# Types that are known only under the name that a module of the library gives them.
KNOWN_AS = {("builtins", "str_iterator"): ("_collections_abc", "str_iterator"),
            ("builtins", "str_ascii_iterator"): ("_collections_abc", "str_iterator")}
# Types whose objects' sizes depend on constants that the core lacks where the interpreter itself holds the module.
UNMEASURED = {("array", "array")}


class AloneView(test_zoo.View):
    """What heapcore answers without any file, the nameless types called as `with_files` calls them."""

    def __init__(self, label, target_arguments, truth, mapped_bytes, with_files):
        super().__init__(label, target_arguments, truth, mapped_bytes)
        self.with_files = with_files

    def document(self, name):
        document = super().document(name)
        if name == "malloc":  # how malloc_info is to be read depends on which libc wrote it
            document["target"]["libc"] = self.with_files.document(name)["target"]["libc"]
        if name not in ("types", "tracked"):
            return document
        names = {row["address"]: row for row in self.with_files.document(name)["types"]}
        for row in document["types"]:
            true = names.get(row["address"], row)
            key = true["module"], true["name"]
            known_as = KNOWN_AS.get(key, ("", "<type at %s>" % row["address"]) if key in NAMELESS else None)
            if known_as == (row["module"], row["name"]):
                row["module"], row["name"] = key
            if key in UNMEASURED and self.lacks_array_items():
                row["bytes"] = true["bytes"]
        total = document["total"]
        total["bytes"] = sum(row["bytes"] for row in document["types"])
        return document

    def lacks_array_items(self):
        warnings = self.answers["types"].document["warnings"]
        return "array-items-missing" in [warning["code"] for warning in warnings]


@harness.for_each_interpreter
class CoreAlone(test_zoo.Zoo):
    interpreter = None

    @classmethod
    def setUpClass(cls):
        cls.views = []
        cls.hidden = cls.temporary_directory()
        if harness.why_no_gcore():
            harness.skipped("cores alone", harness.why_no_gcore())
            return
        target = cls.start_python(cls.interpreter, "zoo.py", 0x33)
        truth = test_zoo.read_truth(target)
        core = target.gcore()
        mapped = harness.elf.core_mapped_bytes(core)
        with_files = test_zoo.View("gcore with files", [core], truth, mapped)
        cls.views += [with_files, cls.alone("gcore", core, truth, mapped, with_files)]
        if harness.why_no_kernel_core():
            harness.skipped("kernel cores alone", harness.why_no_kernel_core())
            return
        core = target.kernel_core()
        cls.views.append(cls.alone("kernel core", core, truth, harness.elf.core_mapped_bytes(core), with_files))

    @classmethod
    def alone(cls, label, core, truth, mapped_bytes, with_files):
        return AloneView(label + " alone", [core, "--sysroot", cls.hidden], truth, mapped_bytes, with_files)

    def test_live_answers_are_complete(self):
        """What is missing is said: names, and the sizes of array.array's items, nothing else of Python's."""
        allowed = {"type-names-missing", "array-items-missing", "thread-memory-missing"}
        for view in self.views[1:]:
            for name in test_zoo.QUESTIONS:
                with self.subTest(view.label, question=name):
                    codes = {warning["code"] for warning in view.answers[name].document["warnings"]}
                    self.assertEqual(codes - allowed, set())

    @test_zoo.on_each_view("types")
    def test_target_is_described(self, view, document):
        target = document["target"]
        self.assertEqual(target["python"], self.interpreter.release)
        self.assertRegex(target["libc"], "^glibc")  # which one, only its constants say

    def test_names_are_the_types_own(self):
        for view in self.views[1:]:
            with self.subTest(view.label):
                self.assert_equal_tables({row["address"]: (row["module"], row["name"])
                                          for row in view.with_files.document("types")["types"]},
                                         {row["address"]: (row["module"], row["name"])
                                          for row in view.document("types")["types"]})

    def test_program_of_another_name(self):
        """A copy of the interpreter under a name that says nothing, deleted before its core is read."""
        if harness.why_no_kernel_core():
            return
        directory = self.temporary_directory()
        program = os.path.join(directory, "worker")
        if not harness.is_elf(self.interpreter.path):
            harness.skipped("a renamed %s" % self.interpreter, "it is started by a script")
            return
        shutil.copy(self.interpreter.path, program)
        home = subprocess.run([self.interpreter.path, "-c", "import sys; print(sys.prefix)"], stdout=subprocess.PIPE,
                              check=True, text=True).stdout.strip()
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHOME": home}
        target = harness.Target([program, "-B", "-S", os.path.join(harness.PROGRAMS, "zoo.py"), directory], directory,
                                0x33, env)
        self.addCleanup(target.stop)
        target.wait_ready()
        truth = test_zoo.read_truth(target)
        core = target.kernel_core()
        os.remove(program)
        document = harness.check_contract(harness.heapcore("types", core, "--sysroot", self.hidden, "--json"))
        self.assertEqual(document["target"]["python"], self.interpreter.release)
        table = harness.rows_by_type(document["types"])
        expected = {(u["module"], u["name"]): u["count"] for u in truth["user_types"]}
        self.assert_equal_tables(expected, {key: table.get(key, (None,))[0] for key in expected})


if __name__ == "__main__":
    harness.main()
