// The page of the HTML report, as it was put together when heapcore was built (cmake/Page.cmake). Private to report.
#pragma once

#include <string_view>

namespace heapcore {

// What stands before and after the report's own data.
std::string_view page_before_data();
std::string_view page_after_data();

}  // namespace heapcore
