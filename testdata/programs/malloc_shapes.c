/* Makes a known malloc heap, says what malloc itself thinks of it, and stops.
 *
 *   malloc_shapes MODE OUTPUT
 *
 * OUTPUT gets lines "key value" (mallinfo2, or mallinfo before glibc 2.33; what the program put where), then malloc_info's XML. Everything that writing them needs is
 * allocated beforehand, and malloc is not called again: the heap that is then dumped is the heap that was described. Ready is
 * said by the line "ready" on standard output; the process then sleeps until it is killed. SIGUSR1 makes it call malloc_trim(0)
 * and write its resident anonymous bytes before and after to OUTPUT.trim.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sys/syscall.h>

/* Not in every glibc that this may be linked with. */
#pragma weak mallinfo2
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#ifndef MALLOC_SHAPES_THREADS
#define MALLOC_SHAPES_THREADS 8
#endif

static pthread_barrier_t made, over;
static void *kept[1 << 16];
static size_t kept_count;

/* The same sequence in every run. */
static uint64_t random_state = 88172645463325252ull;
static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* Fills and frees a part, so that every kind of list gets something. */
static void churn(uint64_t *state, size_t blocks, size_t largest) {
  void **block = calloc(blocks, sizeof *block);
  for (size_t i = 0; i < blocks; ++i) {
    size_t n = 1 + next_random(state) % largest;
    block[i] = malloc(n);
    memset(block[i], (int)(n & 0xff), n);
  }
  for (size_t i = 0; i < blocks; ++i) {
    if (next_random(state) % 3 == 0) {
      free(block[i]);
      block[i] = NULL;
    }
  }
  /* Sorts the unsorted list into the bins, then makes new unsorted chunks. */
  void *volatile sorted = malloc(largest * 2);
  for (size_t i = 0; i < blocks; i += 7) {
    free(block[i]);
    block[i] = NULL;
  }
  free(sorted);
}

static void mode_single(void) { churn(&random_state, 20000, 3000); }

static void mode_small(void) {
  /* Fills tcaches and fastbins. */
  static void *block[4000];
  for (size_t i = 0; i < 4000; ++i) block[i] = malloc(16 + 16 * (i % 9));
  for (size_t i = 0; i < 4000; i += 2) free(block[i]);
}

static void mode_mmapped(void) {
  for (size_t i = 0; i < 40; ++i) kept[kept_count++] = malloc((256 << 10) + 5000 * i);
  for (size_t i = 0; i < 40; i += 4) kept[i] = realloc(kept[i], (1 << 20) + 4096 * i);
  for (size_t i = 0; i < 6; ++i) kept[kept_count++] = memalign((size_t)4096 << i, 300 << 10);
  kept[kept_count++] = memalign(64, 700 << 10);
  free(kept[1]); /* raises the threshold */
  mode_single();
}

static void mode_peak(void) {
  static void *block[60000];
  for (size_t i = 0; i < 60000; ++i) memset(block[i] = malloc(900), 1, 900);
  void *last = malloc(64); /* keeps top from being trimmed at once */
  for (size_t i = 0; i < 60000; ++i) free(block[i]);
  kept[kept_count++] = last;
}

static void mode_holes(void) {
  static void *block[8000];
  for (size_t i = 0; i < 8000; ++i) memset(block[i] = malloc(8000), 1, 8000);
  for (size_t i = 0; i < 8000; i += 2) free(block[i]);
}

static void *thread_main(void *argument) {
  uint64_t state = 1234567 + 977 * (uint64_t)(uintptr_t)argument;
  /* Tens of MB, so that an arena takes several heaps. */
  churn(&state, 45000, 7000);
  pthread_barrier_wait(&made);
  pthread_barrier_wait(&over);
  return NULL;
}

static void mode_threads(void) {
  static pthread_t thread[MALLOC_SHAPES_THREADS];
  pthread_barrier_init(&made, NULL, MALLOC_SHAPES_THREADS + 1);
  pthread_barrier_init(&over, NULL, MALLOC_SHAPES_THREADS + 1);
  for (uintptr_t i = 0; i < MALLOC_SHAPES_THREADS; ++i) pthread_create(&thread[i], NULL, thread_main, (void *)i);
  pthread_barrier_wait(&made);
  mode_single();
}

static void mode_finished(void) {
  /* Arenas that no thread is attached to any more. */
  pthread_t thread[4];
  pthread_barrier_init(&made, NULL, 4);
  pthread_barrier_init(&over, NULL, 4);
  for (uintptr_t i = 0; i < 4; ++i) pthread_create(&thread[i], NULL, thread_main, (void *)i);
  for (int i = 0; i < 4; ++i) pthread_join(thread[i], NULL);
  mode_single();
}

static void mode_blocked(void) {
  /* The break cannot grow, so malloc goes on in memory that it maps. */
  churn(&random_state, 3000, 1000);
  char *end = (char *)(((uintptr_t)sbrk(0) + 4095) & ~(uintptr_t)4095);
  if (mmap(end + (64 << 10), 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) {
    exit(3);
  }
  for (int i = 0; i < 6; ++i) {
    churn(&random_state, 5000, 1000);
    kept[kept_count++] = malloc(300 << 10);
  }
}

static void mode_aligned(void) {
  for (size_t i = 0; i < 3000; ++i) {
    size_t n = 1 + next_random(&random_state) % 5000;
    void *p = i % 2 ? memalign((size_t)32 << (i % 8), n) : realloc(malloc(n), 2 * n);
    if (i % 5 == 0) p = realloc(p, n / 3 + 1);
    if (i % 3 == 0) free(p);
  }
}

static void mode_many(void) {
  /* More than two million chunks, every fourth of them free. */
  size_t blocks = 2800000;
  void **block = malloc(blocks * sizeof *block);
  for (size_t i = 0; i < blocks; ++i) block[i] = malloc(next_random(&random_state) % 200);
  for (size_t i = 0; i < blocks; i += 4) free(block[i]);
}

/* Eight threads whose arenas take several heaps, of which little is touched. */
static void *heaps_thread(void *argument) {
  static __thread void *block[1500];
  for (size_t i = 0; i < 1500; ++i) block[i] = malloc(100000 + 16 * (i % 50) + 16 * (uintptr_t)argument);
  for (size_t i = 0; i < 1500; i += 3) free(block[i]);
  pthread_barrier_wait(&made);
  pthread_barrier_wait(&over);
  return NULL;
}

static void start_threads(int count, void *(*function)(void *)) {
  static pthread_t thread[8];
  pthread_barrier_init(&made, NULL, (unsigned)count + 1);
  pthread_barrier_init(&over, NULL, (unsigned)count + 1);
  for (uintptr_t i = 0; i < (uintptr_t)count; ++i) pthread_create(&thread[i], NULL, function, (void *)i);
  pthread_barrier_wait(&made);
}

static void mode_heaps(void) { start_threads(8, heaps_thread); }

/* Known numbers of chunks into each thread's tcache: less than any glibc keeps of one size. */
static struct {
  long tid;
  size_t count, bytes;
} put[8];

static void *tcache_thread(void *argument) {
  uintptr_t index = (uintptr_t)argument;
  put[index].tid = syscall(SYS_gettid);
  for (size_t size = 200; size < 1000; size += 16 * (index + 1)) {
    void *block[6];
    size_t n = 1 + size / 16 % 6;
    for (size_t i = 0; i < n; ++i) block[i] = malloc(size);
    for (size_t i = 0; i < n; ++i) put[index].bytes += malloc_usable_size(block[i]) + 8;
    for (size_t i = 0; i < n; ++i) free(block[i]);
    put[index].count += n;
  }
  if (index == 7) return NULL; /* the main thread */
  pthread_barrier_wait(&made);
  pthread_barrier_wait(&over);
  return NULL;
}

static void mode_tcache(void) {
  start_threads(3, tcache_thread);
  tcache_thread((void *)(uintptr_t)7);
}

/* A little of everything, for small cores. */
static void *mixed_thread(void *argument) {
  uint64_t state = 99991 + 977 * (uint64_t)(uintptr_t)argument;
  churn(&state, 300, 1500);
  return tcache_thread(argument);
}

static void mode_mixed(void) {
  kept[kept_count++] = malloc(200 << 10);
  kept[kept_count++] = memalign(16384, 150 << 10);
  churn(&random_state, 800, 1200);
  mode_small();
  start_threads(2, mixed_thread);
}

/* Caught inside malloc, most likely: it never stops calling it. */
static void *busy_thread(void *argument) {
  uint64_t state = 31 + (uint64_t)(uintptr_t)argument;
  pthread_barrier_wait(&made);
  for (;;) churn(&state, 500, 3000);
  return NULL;
}

static void mode_busy(void) { start_threads(4, busy_thread); }

static void mode_split(void) {
  /* Another caller of sbrk in between. */
  for (int i = 0; i < 4; ++i) {
    churn(&random_state, 3000, 1000);
    memset(sbrk(5000 + 16 * i), 0x5a, 5000);
    churn(&random_state, 3000, 1000);
  }
}

/* Resident anonymous memory: what of the program's files is resident has nothing to do with malloc. */
static long resident_bytes(void) {
  static char text[4096];
  int fd = open("/proc/self/smaps_rollup", O_RDONLY);
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  const char *line = n > 0 ? strstr(text, "Anonymous:") : NULL;
  return line ? strtol(line + 10, NULL, 10) * 1024 : 0;
}

static char output[1 << 20];
static size_t output_used;
static ssize_t keep_output(void *cookie, const char *text, size_t n) {
  (void)cookie;
  if (n > sizeof output - output_used) n = sizeof output - output_used;
  memcpy(output + output_used, text, n);
  output_used += n;
  return (ssize_t)n;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const char *mode = argv[1];
  static char trim_name[4096];
  snprintf(trim_name, sizeof trim_name, "%s.trim", argv[2]);
  sigset_t trim_wanted;
  sigemptyset(&trim_wanted);
  sigaddset(&trim_wanted, SIGUSR1);
  sigprocmask(SIG_BLOCK, &trim_wanted, NULL); /* and so in every thread: the signal waits until it is asked for */
  int fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
  /* The stream and what printing allocates, before the heap is made. */
  FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = keep_output});
  static char buffer[1 << 16];
  setvbuf(stream, buffer, _IOFBF, sizeof buffer);
  malloc_info(0, stream);
  fflush(stream);
  output_used = 0;

  if (strcmp(mode, "single") == 0) mode_single();
  else if (strcmp(mode, "small") == 0) mode_small();
  else if (strcmp(mode, "mmapped") == 0) mode_mmapped();
  else if (strcmp(mode, "peak") == 0) mode_peak();
  else if (strcmp(mode, "holes") == 0) mode_holes();
  else if (strcmp(mode, "threads") == 0) mode_threads();
  else if (strcmp(mode, "finished") == 0) mode_finished();
  else if (strcmp(mode, "split") == 0) mode_split();
  else if (strcmp(mode, "blocked") == 0) mode_blocked();
  else if (strcmp(mode, "aligned") == 0) mode_aligned();
  else if (strcmp(mode, "many") == 0) mode_many();
  else if (strcmp(mode, "heaps") == 0) mode_heaps();
  else if (strcmp(mode, "tcache") == 0) mode_tcache();
  else if (strcmp(mode, "mixed") == 0) mode_mixed();
  else if (strcmp(mode, "busy") == 0) mode_busy();
  else return 2;

  malloc_info(0, stream);
  fflush(stream);
  struct mallinfo2 info;
  if (mallinfo2) {
    info = mallinfo2();
  } else {
    struct mallinfo old = mallinfo();
    info = (struct mallinfo2){(unsigned)old.arena,   (unsigned)old.ordblks, (unsigned)old.smblks,   (unsigned)old.hblks,
                              (unsigned)old.hblkhd,  (unsigned)old.usmblks, (unsigned)old.fsmblks,  (unsigned)old.uordblks,
                              (unsigned)old.fordblks, (unsigned)old.keepcost};
  }
  static char line[1024];
  int n = snprintf(line, sizeof line,
                   "arena %zu\nordblks %zu\nsmblks %zu\nhblks %zu\nhblkhd %zu\nfsmblks %zu\nuordblks %zu\nfordblks "
                   "%zu\nkeepcost %zu\n",
                   info.arena, info.ordblks, info.smblks, info.hblks, info.hblkhd, info.fsmblks, info.uordblks,
                   info.fordblks, info.keepcost);
  for (size_t i = 0; i < 8; ++i) {
    if (put[i].tid == 0) continue;
    n += snprintf(line + n, sizeof line - (size_t)n, "tcache_count_%ld %zu\ntcache_bytes_%ld %zu\n", put[i].tid,
                  put[i].count, put[i].tid, put[i].bytes);
  }
  if (write(fd, line, (size_t)n) != n || write(fd, output, output_used) != (ssize_t)output_used) return 1;
  close(fd);
  if (write(1, "ready\n", 6) != 6) return 1;
  for (;;) {
    int signal_number;
    if (sigwait(&trim_wanted, &signal_number) != 0) continue;
    long before = resident_bytes();
    malloc_trim(0);
    long after = resident_bytes();
    fd = open(trim_name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    n = snprintf(line, sizeof line, "before %ld\nafter %ld\n", before, after);
    if (write(fd, line, (size_t)n) != n) return 1;
    close(fd);
  }
}
