# A room is one static library. Its headers are reached as "room/header.h" only by the rooms that link it: each room's
# include directory holds nothing but a link to that one room, so the link line *is* the rule of who may look where.
# Every .cc file in a room's folder, and in its layouts/, belongs to it.
function(heapcore_room name)
  cmake_parse_arguments(ROOM "" "" "LINKS;PRIVATE" ${ARGN})
  set(include_dir ${CMAKE_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${include_dir})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR}/${name} ${include_dir}/${name} SYMBOLIC)
  file(GLOB sources CONFIGURE_DEPENDS ${name}/*.cc ${name}/layouts/*.cc)
  add_library(heapcore_${name} STATIC ${sources})
  target_include_directories(heapcore_${name} PUBLIC ${include_dir})
  list(TRANSFORM ROOM_LINKS PREPEND heapcore_)
  target_link_libraries(heapcore_${name} PUBLIC ${ROOM_LINKS} PRIVATE ${ROOM_PRIVATE} heapcore_flags)
endfunction()
