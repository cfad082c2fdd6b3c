"""Says where some fields lie, as far as an interpreter says it itself, and sleeps."""

import os
import signal
import sys
import types


def main():
    function, module = types.FunctionType, types.ModuleType
    # A type's own fixed part ends where its items begin; of bytes it counts the byte behind the text as well.
    said = {("PyTupleObject", "ob_item"): tuple.__basicsize__,
            ("PyBytesObject" if sys.version_info >= (3,) else "PyStringObject", "ob_sval"): bytes.__basicsize__ - 1,
            ("PyTypeObject", "tp_dict"): type.__dictoffset__,
            ("PyTypeObject", "tp_weaklist"): type.__weakrefoffset__,
            ("PyFunctionObject", "func_dict"): function.__dictoffset__,
            ("PyModuleObject", "md_dict"): module.__dictoffset__,
            ("PyBaseExceptionObject", "dict"): BaseException.__dictoffset__}
    rows = ['{"structure": "%s", "field": "%s", "offset": %d}' % (key + (said[key],)) for key in sorted(said)]
    with open(os.path.join(sys.argv[1], "layout.json"), "w") as file:
        file.write("[" + ", ".join(rows) + "]")
    os.write(1, b"R")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
