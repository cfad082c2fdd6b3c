// Holds an object for held.py: in static data, and on the stack of a thread.
#include <sys/syscall.h>
#include <unistd.h>

static void* held_by_c;

void hold(void* object) {
  held_by_c = object;
}

void hold_on_stack(void* object) {
  void* volatile held = object;
  while (held) pause();
}

int thread_id(void) {
  return (int)syscall(SYS_gettid);
}
