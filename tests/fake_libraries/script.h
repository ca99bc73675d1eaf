/* The script of a fake library. A C file of this folder includes it behind

     #define SCRIPT "FAKE_DCMI"             the environment variable that names the script's file
     #define WORDS " name serial power "    all words that its devices may have, with a blank at both ends
     #define LIBRARY_WORDS " version "      all words of the library itself, where it has any

   A script has one word and its value a line. What stands before the first device is of the library:

     device, part                     begins a device, or a part of the device before (a chip, a die, an instance)
     NAME VALUE                       a word of the library or of the device above
     count CURVE                      how many whole devices there are; without it all. A call that counts is a reading
     answer FUNCTION CURVE            the code of a function: before all devices of each, under one of that device alone
     hang FUNCTION CURVE              so many seconds the function waits before it answers
     crash FUNCTION CURVE             not 0: the process dies in the function (SIGSEGV)
     log PATH                         each call of a function appends "PID FUNCTION DEVICE" to the file (-1: of no device)
     driver VERSION                   a driver of another version than "petaseal-fake-1.0"

   FUNCTION may be * for all. A function that an older library lacks is left out when it is compiled (`compile_library`).
   A CURVE is a value, and later ones each with where it begins: "700000 @5 350000 @2s 0" changes after 5 readings and
   2 s after the script was read. How many readings there were, a library's file counts: `d->reads++` in the function with
   which a reading begins. A text may have bytes as \xHH: "Fake-1\x00rest". Blanks at its end count.

   The script is read by `read_script`, which the library's own initialisation calls, and again where the file is another
   one by then; devices keep their places in memory. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef DEVICE
#define DEVICE "device"
#endif
#ifndef PART
#define PART "part"
#endif
#ifndef LIBRARY_WORDS
#define LIBRARY_WORDS " "
#endif
#define MOST_DEVICES 64
#define MOST_ENTRIES 96
#define TEXT 256

struct entry { char word[64], of[64], text[TEXT]; unsigned length; }; /* of: the function, for answer, hang and crash */
struct device {
  struct device *parent; /* of a part */
  struct entry entries[MOST_ENTRIES];
  int entry_count;
  long reads;            /* readings that began, by which curves change; of a part those of its parent count */
  long seen;             /* the rest is the library's own, and 0 at first */
  double energy_mj, energy_at;
};
static struct device devices[MOST_DEVICES], library;
static int device_count;
static double begun; /* when the script was read; 0 before */

static inline double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

static inline struct entry *entry_of(struct device *d, const char *word, const char *of) {
  for (int i = 0; i < d->entry_count; i++)
    if (!strcmp(d->entries[i].word, word) && (!strcmp(d->entries[i].of, of) || (*of && !strcmp(d->entries[i].of, "*"))))
      return &d->entries[i];
  return NULL;
}
static inline int has(struct device *d, const char *word) { return entry_of(d, word, "") != NULL; }

/* The piece of a curve that counts now, NULL without one. */
static inline const char *piece_of(struct device *d, struct entry *entry) {
  static __thread char piece[TEXT];
  char copy[TEXT], *rest = copy, *word;
  double from = 0;
  int in_seconds = 0, any = 0;
  if (!entry) return NULL;
  snprintf(copy, TEXT, "%s", entry->text);
  while ((word = strsep(&rest, " "))) {
    if (*word == '@') from = atof(word + 1), in_seconds = word[strlen(word) - 1] == 's';
    else if (*word && (in_seconds ? seconds() - begun : (d->parent ? d->parent : d)->reads) >= from)
      snprintf(piece, TEXT, "%s", word), any = 1;
  }
  return any ? piece : NULL;
}

/* A number of a device (or of &library) now, `otherwise` where the script has none. "nan" and "inf" are numbers too. */
static inline double number_of(struct device *d, const char *word, double otherwise) {
  const char *piece = piece_of(d, entry_of(d, word, ""));
  return piece ? atof(piece) : otherwise;
}

static inline long long whole(const char *piece) { return *piece == '-' ? strtoll(piece, NULL, 0) : (long long)strtoull(piece, NULL, 0); }

/* The same as a whole number of 64 bits, also in hex; cast it for what is unsigned. */
static inline long long whole_of(struct device *d, const char *word, long long otherwise) {
  const char *piece = piece_of(d, entry_of(d, word, ""));
  return piece ? whole(piece) : otherwise;
}

static inline const char *text_of(struct device *d, const char *word, const char *otherwise) {
  struct entry *entry = entry_of(d, word, "");
  return entry ? entry->text : otherwise;
}

/* Copy a text with the bytes behind a NUL too; return 0 where there is no such text, -1 where it does not fit. */
static inline int copy_text(struct device *d, const char *word, char *into, size_t size) {
  struct entry *entry = entry_of(d, word, "");
  if (!entry || !entry->length) return 0;
  if (entry->length >= size) return -1;
  memcpy(into, entry->text, entry->length), into[entry->length] = 0;
  return entry->length;
}

static inline int index_of(struct device *d) { return d >= devices && d < devices + device_count ? (int)(d - devices) : -1; }

/* How many whole devices there are now: a reading of `count`. */
static inline int wholes(void) {
  int all = 0;
  for (int i = 0; i < device_count; i++) all += !devices[i].parent;
  int count = whole_of(&library, "count", all);
  library.reads++;
  return count;
}
static inline struct device *whole_at(int index) {
  for (int i = 0; i < device_count; i++)
    if (!devices[i].parent && !index--) return &devices[i];
  return NULL;
}
static inline int parts_of(struct device *whole) {
  int count = 0;
  for (int i = 0; i < device_count; i++) count += devices[i].parent == whole;
  return count;
}
static inline struct device *part_at(struct device *whole, int index) {
  for (int i = 0; i < device_count; i++)
    if (devices[i].parent == whole && !index--) return &devices[i];
  return NULL;
}

static inline const char *of_function(const char *word, const char *function, struct device *d) {
  const char *piece = d ? piece_of(d, entry_of(d, word, function)) : NULL;
  if (!piece && d && d->parent) piece = piece_of(d->parent, entry_of(d->parent, word, function));
  return piece ? piece : piece_of(&library, entry_of(&library, word, function));
}

/* Called at the begin of every function: log, wait, die as the script says; return the code to answer with, else 0.
   `d` is NULL for a function of the whole library. */
static inline int asked(const char *function, struct device *d) {
  const char *path = text_of(&library, "log", ""), *piece;
  FILE *file = *path ? fopen(path, "a") : NULL;
  if (file) fprintf(file, "%ld %s %d\n", (long)getpid(), function, d ? index_of(d) : -1), fclose(file);
  if ((piece = of_function("crash", function, d)) && whole(piece)) raise(SIGSEGV);
  if ((piece = of_function("hang", function, d))) {
    double wait = atof(piece);
    struct timespec left = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
    while (nanosleep(&left, &left) && errno == EINTR);
  }
  return (piece = of_function("answer", function, d)) ? (int)whole(piece) : 0;
}
#define FAKE_DRIVER text_of(&library, "driver", "petaseal-fake-1.0")

static inline void refuse(const char *what, const char *line) {
  fprintf(stderr, "fake library (%s): %s: %s\n", SCRIPT, what, line);
  abort();
}

static inline int listed(const char *words, const char *word) {
  char padded[80];
  snprintf(padded, sizeof padded, " %s ", word);
  return strstr(words, padded) != NULL;
}

static inline void read_line(char *line) {
  struct device *d = device_count ? &devices[device_count - 1] : &library;
  char *rest = strchr(line, ' ');
  if (rest) *rest++ = 0;
  else rest = line + strlen(line);
  if (!strcmp(line, DEVICE) || !strcmp(line, PART)) {
    if (device_count == MOST_DEVICES) refuse("too many devices", line);
    struct device *whole = d->parent ? d->parent : d;
    if (!strcmp(line, PART) && d == &library) refuse("a part belongs to no device", line);
    memset(&devices[device_count], 0, sizeof *d);
    devices[device_count++].parent = strcmp(line, PART) ? NULL : whole;
    return;
  }
  int of_a_function = listed(" answer hang crash ", line);
  if (!of_a_function && !listed(d == &library ? " log count driver " LIBRARY_WORDS : WORDS, line)) refuse("no such word", line);
  if (d->entry_count == MOST_ENTRIES || strlen(line) >= 64 || strlen(rest) >= TEXT) refuse("too long", line);
  struct entry *entry = &d->entries[d->entry_count++];
  snprintf(entry->word, sizeof entry->word, "%s", line);
  *entry->of = 0;
  if (of_a_function) {
    char *value = strchr(rest, ' ');
    if (!value) refuse("a function and what it does are missing", line);
    *value++ = 0;
    snprintf(entry->of, sizeof entry->of, "%s", rest), rest = value;
  }
  char *into = entry->text;
  for (unsigned byte; *rest; rest++)
    if (rest[0] == '\\' && rest[1] == 'x' && sscanf(rest + 2, "%2x", &byte) == 1) *into++ = (char)byte, rest += 3;
    else *into++ = *rest;
  *into = 0, entry->length = into - entry->text;
}

static inline void read_script(void) {
  static char path[4096];
  static struct stat before;
  struct stat now = {0};
  char line[1024];
  const char *named = getenv(SCRIPT) ? getenv(SCRIPT) : "";
  if (*named) stat(named, &now);
  if (begun && !strcmp(path, named) && now.st_ino == before.st_ino && now.st_size == before.st_size &&
      !memcmp(&now.st_mtim, &before.st_mtim, sizeof now.st_mtim)) return;
  snprintf(path, sizeof path, "%s", named), before = now;
  memset(&library, 0, sizeof library), device_count = 0, begun = seconds();
  FILE *file = *named ? fopen(named, "r") : NULL;
  while (file && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    if (*line && *line != '#') read_line(line);
  }
  if (file) fclose(file);
}
