/* The script of the fakes of libnvidia-ml.so.1 and libcuda.so.1: read once by each process, from the file that
   FAKE_NVIDIA names. One line is one word and its values:

     driver VERSION
     nvml_init CODE, cuda_init CODE      of initialisation; -1 lets the process that asks CUDA die
     confidential NUMBER                 whether confidential computing is on; it is unknown without this line
     answer FUNCTION CODE                of one function of NVML; 13 is "function not found"
     cuda_order INDEX ...                of the GPUs, in CUDA's order
     cuda_shows INDEX                    the GPU that CUDA shows, whatever is chosen
     cuda_lost WHAT                      0: CUDA shows a lost GPU, 1: leaves it out, 2: does not start where it sees it
     gpu, mig                            begins a GPU, or an instance on it; what follows is of it
     uuid, name, serial, part, vbios TEXT
     pci DOMAIN:BUS                      in hex
     memory, free, sms, l2, max_clock, ecc, ecc_pending, mig_mode, gi, ci NUMBER
     power_limit, default_limit, max_limit, app_clock, persistence, compute NUMBER
     capability MAJOR MINOR
     clock, power, temperature, usage, reasons, uncorrected, processes, lost, xid CURVE

   `lost` is 1, or the code that NVML answers of the GPU.

   A CURVE is a value, and later ones each with where it begins: "700000 @5 350000 @2s 0" changes after 5 readings of the
   GPU's clock, with which every reading begins, and 2 s after the library was initialised. An xid is told once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_STEPS 16
#define MOST_DEVICES 32
#define TEXT 128

struct curve { int count; double value[MOST_STEPS], from[MOST_STEPS]; int seconds[MOST_STEPS]; };
enum { CLOCK, POWER, TEMPERATURE, USAGE, REASONS, UNCORRECTED, PROCESSES, LOST, XID, CURVES };
static const char *curve_names[] = {"clock", "power", "temperature", "usage", "reasons", "uncorrected", "processes",
                                    "lost", "xid"};
struct device {
  struct device *parent;
  char uuid[TEXT], name[TEXT], serial[TEXT], part[TEXT], vbios[TEXT];
  unsigned domain, bus;
  unsigned long long memory, free;
  long sms, l2, max_clock, ecc, ecc_pending, mig_mode, gi, ci, major, minor;
  long power_limit, default_limit, max_limit, app_clock, persistence, compute;
  struct curve curves[CURVES];
  long reads, told;
  double energy_mj, energy_at;
};
static struct device devices[MOST_DEVICES];
static struct { char name[TEXT]; int code; } answers[64];
static char driver[TEXT] = "petaseal-fake-1.0";
static int device_count, answer_count, nvml_init, cuda_init, cuda_shows = -1, cuda_lost, confidential = -1, cuda_order[MOST_DEVICES], cuda_ordered;
static double begun;

static inline double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

static inline double value_of(struct device *device, int which) {
  struct curve *curve = &(device->parent && which == LOST ? device->parent : device)->curves[which];
  struct device *whole = device->parent ? device->parent : device;
  double value = 0;
  for (int i = 0; i < curve->count; i++)
    if ((curve->seconds[i] ? seconds() - begun : whole->reads) >= curve->from[i]) value = curve->value[i];
  return value;
}

static inline void read_curve(struct curve *curve, char *text) {
  double from = 0;
  int in_seconds = 0;
  for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
    if (*word == '@') {
      from = atof(word + 1);
      in_seconds = word[strlen(word) - 1] == 's';
    } else if (curve->count < MOST_STEPS) {
      curve->value[curve->count] = atof(word), curve->from[curve->count] = from;
      curve->seconds[curve->count++] = in_seconds;
    }
  }
}

static inline void read_line(char *key, char *rest) {
  struct device *d = device_count ? &devices[device_count - 1] : NULL;
  if (!strcmp(key, "driver")) snprintf(driver, TEXT, "%s", rest);
  else if (!strcmp(key, "nvml_init")) nvml_init = atoi(rest);
  else if (!strcmp(key, "cuda_init")) cuda_init = atoi(rest);
  else if (!strcmp(key, "confidential")) confidential = atoi(rest);
  else if (!strcmp(key, "cuda_shows")) cuda_shows = atoi(rest);
  else if (!strcmp(key, "cuda_lost")) cuda_lost = atoi(rest);
  else if (!strcmp(key, "cuda_order"))
    for (char *word = strtok(rest, " "); word; word = strtok(NULL, " ")) cuda_order[cuda_ordered++] = atoi(word);
  else if (!strcmp(key, "answer")) {
    sscanf(rest, "%127s %d", answers[answer_count].name, &answers[answer_count].code), answer_count++;
  } else if (!strcmp(key, "gpu") || !strcmp(key, "mig")) {
    struct device *whole = d && d->parent ? d->parent : d;
    devices[device_count].ecc_pending = -1;
    devices[device_count++].parent = *key == 'm' ? whole : NULL;
  } else if (!d) fprintf(stderr, "fake_nvidia: %s belongs to no device\n", key), abort();
  else if (!strcmp(key, "uuid")) snprintf(d->uuid, TEXT, "%s", rest);
  else if (!strcmp(key, "name")) snprintf(d->name, TEXT, "%s", rest);
  else if (!strcmp(key, "serial")) snprintf(d->serial, TEXT, "%s", rest);
  else if (!strcmp(key, "part")) snprintf(d->part, TEXT, "%s", rest);
  else if (!strcmp(key, "vbios")) snprintf(d->vbios, TEXT, "%s", rest);
  else if (!strcmp(key, "pci")) sscanf(rest, "%x:%x", &d->domain, &d->bus);
  else if (!strcmp(key, "memory")) d->memory = strtoull(rest, NULL, 10);
  else if (!strcmp(key, "free")) d->free = strtoull(rest, NULL, 10);
  else if (!strcmp(key, "sms")) d->sms = atol(rest);
  else if (!strcmp(key, "l2")) d->l2 = atol(rest);
  else if (!strcmp(key, "max_clock")) d->max_clock = atol(rest);
  else if (!strcmp(key, "ecc")) d->ecc = atol(rest);
  else if (!strcmp(key, "ecc_pending")) d->ecc_pending = atol(rest);
  else if (!strcmp(key, "power_limit")) d->power_limit = atol(rest);
  else if (!strcmp(key, "default_limit")) d->default_limit = atol(rest);
  else if (!strcmp(key, "max_limit")) d->max_limit = atol(rest);
  else if (!strcmp(key, "app_clock")) d->app_clock = atol(rest);
  else if (!strcmp(key, "persistence")) d->persistence = atol(rest);
  else if (!strcmp(key, "compute")) d->compute = atol(rest);
  else if (!strcmp(key, "mig_mode")) d->mig_mode = atol(rest);
  else if (!strcmp(key, "gi")) d->gi = atol(rest);
  else if (!strcmp(key, "ci")) d->ci = atol(rest);
  else if (!strcmp(key, "capability")) sscanf(rest, "%ld %ld", &d->major, &d->minor);
  else {
    for (int i = 0; i < CURVES; i++)
      if (!strcmp(key, curve_names[i])) { read_curve(&d->curves[i], rest); return; }
    fprintf(stderr, "fake_nvidia: no such word: %s\n", key), abort();
  }
}

static inline void read_script(void) {
  char line[1024];
  const char *path = getenv("FAKE_NVIDIA");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (begun) return;
  begun = seconds();
  while (file && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    if (!*line) continue;
    char *rest = strchr(line, ' ');
    if (rest) *rest++ = 0;
    read_line(line, rest ? rest : "");
  }
  if (file) fclose(file);
}

/* Return the code with which a function is scripted to answer. */
static inline int scripted(const char *name) {
  for (int i = 0; i < answer_count; i++)
    if (!strcmp(answers[i].name, name)) return answers[i].code;
  return 0;
}
