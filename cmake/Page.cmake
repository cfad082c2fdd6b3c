# Puts the HTML report's page together and writes it as a C++ file: cmake -DPAGE=FOLDER -DD3=FILE -DD3_NOTICE=FILE
# -DOUTPUT=FILE -P Page.cmake. The page allows only the one script and the one style whose hashes it names.

# Hexadecimal digits to base64, as a Content-Security-Policy wants its hashes.
function(to_base64 hex result)
  set(letters ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  string(LENGTH "${hex}" digits)
  set(text "")
  foreach(at RANGE 0 ${digits} 6)
    string(SUBSTRING "${hex}00000" ${at} 6 three_bytes)
    math(EXPR value "0x${three_bytes}")
    foreach(shift 18 12 6 0)
      math(EXPR index "(${value} >> ${shift}) & 63")
      string(SUBSTRING "${letters}" ${index} 1 letter)
      string(APPEND text "${letter}")
    endforeach()
  endforeach()
  # 32 bytes: one letter more than they need.
  string(LENGTH "${text}" length)
  math(EXPR length "${length} - 1")
  string(SUBSTRING "${text}" 0 ${length} text)
  set(${result} "${text}=" PARENT_SCOPE)
endfunction()

# The bytes of a text as a C++ array's elements.
function(to_array text result)
  set(scratch "${OUTPUT}.scratch")
  file(WRITE "${scratch}" "${text}")
  file(READ "${scratch}" hex HEX)
  file(REMOVE "${scratch}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," array "${hex}")
  set(${result} "${array}" PARENT_SCOPE)
endfunction()

file(READ "${PAGE}/page.html" page)
file(READ "${PAGE}/page.css" style)
file(READ "${PAGE}/page.js" drawing)
file(READ "${D3}" d3)
file(READ "${D3_NOTICE}" notice)
set(script "/*\nd3-hierarchy, of which a copy follows:\n\n${notice}*/\n${d3}\n${drawing}")
string(SHA256 script_hash "${script}")
string(SHA256 style_hash "${style}")
to_base64("${script_hash}" script_hash)
to_base64("${style_hash}" style_hash)
string(REPLACE "@SCRIPT_HASH@" "${script_hash}" page "${page}")
string(REPLACE "@STYLE_HASH@" "${style_hash}" page "${page}")
string(REPLACE "@STYLE@" "${style}" page "${page}")
string(REPLACE "@SCRIPT@" "${script}" page "${page}")
string(FIND "${page}" "@DATA@" at)
string(SUBSTRING "${page}" 0 ${at} before)
math(EXPR at "${at} + 6")
string(SUBSTRING "${page}" ${at} -1 after)
to_array("${before}" before)
to_array("${after}" after)
file(WRITE "${OUTPUT}" "// Made by cmake/Page.cmake.
#include \"report/page.h\"

namespace heapcore {
namespace {
constexpr char kBefore[] = {
${before}};
constexpr char kAfter[] = {
${after}};
}  // namespace

std::string_view page_before_data() {
  return {kBefore, sizeof kBefore};
}
std::string_view page_after_data() {
  return {kAfter, sizeof kAfter};
}

}  // namespace heapcore
")
