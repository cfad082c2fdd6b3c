/* Works as hard as it can while it is looked at: sixteen threads that allocate and free without pause, and a client that
   asks a server over a socket on the loopback and checks each answer. What it did so far lies in the file that is its
   argument, as six 64-bit numbers: allocations, requests sent, answers got, wrong answers, threads that found their
   memory changed, and the longest wait for an answer in microseconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kThreads = 16, kKept = 1024, kAtOnce = 64 };

static struct {
  _Atomic uint64_t allocations, sent, answered, wrong, changed, longest_us;
} *told;

static void *allocate(void *argument) {
  unsigned seed = (unsigned)(uintptr_t)argument * 2654435761u + 1;
  unsigned char *kept[kKept] = {0};
  size_t bytes[kKept] = {0};
  for (;;) {
    for (int i = 0; i < kAtOnce; ++i) {
      unsigned at = rand_r(&seed) % kKept;
      if (kept[at] != NULL && (kept[at][0] != (unsigned char)at || kept[at][bytes[at] - 1] != (unsigned char)at))
        ++told->changed;
      free(kept[at]);
      bytes[at] = 1 + (at % 100 == 0 ? rand_r(&seed) % 200000 : rand_r(&seed) % 2000);
      kept[at] = malloc(bytes[at]);
      if (kept[at] == NULL) _exit(3);
      kept[at][0] = kept[at][bytes[at] - 1] = (unsigned char)at;
    }
    told->allocations += kAtOnce;
  }
  return NULL;
}

static int exactly(int fd, void *bytes, size_t n, int writing) {
  for (char *at = bytes; n > 0;) {
    ssize_t done = writing ? write(fd, at, n) : read(fd, at, n);
    if (done <= 0) return 0;
    at += done;
    n -= (size_t)done;
  }
  return 1;
}

static uint64_t answer_to(uint64_t request) { return request * 0x9e3779b97f4a7c15ull + 1; }

static void *serve(void *argument) {
  int fd = accept((int)(intptr_t)argument, NULL, NULL);
  uint64_t number;
  while (exactly(fd, &number, sizeof number, 0)) {
    uint64_t *answer = malloc(sizeof *answer);
    *answer = answer_to(number);
    if (!exactly(fd, answer, sizeof *answer, 1)) break;
    free(answer);
  }
  _exit(4); /* a broken connection is what must not be */
}

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

int main(int argc, char **argv) {
  int file = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;
  if (file < 0 || ftruncate(file, 4096) != 0) return 2;
  told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  int client = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0) return 2;
  getsockname(listener, (struct sockaddr *)&address, &length);
  pthread_t thread;
  pthread_create(&thread, NULL, serve, (void *)(intptr_t)listener);
  if (connect(client, (struct sockaddr *)&address, length) != 0) return 2;
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  for (intptr_t i = 0; i < kThreads; ++i) pthread_create(&thread, NULL, allocate, (void *)i);
  if (write(1, "R", 1) != 1) return 2;
  for (uint64_t number = 1;; ++number) {
    uint64_t answer = 0, before = now_us();
    ++told->sent;
    if (!exactly(client, &number, sizeof number, 1) || !exactly(client, &answer, sizeof answer, 0)) return 4;
    uint64_t waited_us = now_us() - before;
    if (waited_us > told->longest_us) told->longest_us = waited_us;
    ++*(answer == answer_to(number) ? &told->answered : &told->wrong);
  }
}
