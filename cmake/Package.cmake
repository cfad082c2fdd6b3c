# cmake --install, and `cpack -G DEB` in the build folder.
install(FILES ${CMAKE_SOURCE_DIR}/docs/heapcore.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(FILES ${D3_HIERARCHY_NOTICE} DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright.d3-hierarchy)
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_NAME heapcore)
set(CPACK_PACKAGE_CONTACT "heapcore engineers <engineers@heapcore.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)  # the libraries it is linked with, by version
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "It walks glibc malloc and CPython's allocator in an ELF core or a stopped process,
decodes Python objects without an interpreter, a debugger or debug symbols,
and says how many bytes are what.")
include(CPack)
