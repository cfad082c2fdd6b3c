# Everything comes from Debian 12; the README says what each is for.
find_package(PkgConfig REQUIRED)
pkg_check_modules(ELF REQUIRED IMPORTED_TARGET libelf)
pkg_check_modules(DW REQUIRED IMPORTED_TARGET libdw)
pkg_check_modules(CAPSTONE REQUIRED IMPORTED_TARGET capstone)
pkg_check_modules(ARCHIVE REQUIRED IMPORTED_TARGET libarchive)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(TBB REQUIRED)
find_package(Threads REQUIRED)
# Debian's node-d3-hierarchy, which lays out the pictures of the HTML report.
find_file(D3_HIERARCHY d3-hierarchy.min.js REQUIRED PATHS /usr/share/nodejs/d3-hierarchy/dist NO_DEFAULT_PATH)
find_file(D3_HIERARCHY_NOTICE copyright REQUIRED PATHS /usr/share/doc/node-d3-hierarchy NO_DEFAULT_PATH)
