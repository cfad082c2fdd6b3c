#include "support/result.h"

#include <system_error>

namespace heapcore {

std::string errno_text(int number) {
  return std::generic_category().message(number);
}

}  // namespace heapcore
