/* The script of the fake Ascend runtime, read once by each process from the file that FAKE_ASCEND names; and what both
   libraries know of its devices. One line is one word and its values:

     soc NAME                 of all processors, as aclrtGetSocName reports it
     version VERSION          of CANN
     refuse OPERATOR TEXT     that does not compile, with what the library reports then
     device                   begins a processor; what follows is of it
     uuid HEX                 16 bytes
     memory, cache, cube, vector NUMBER   bytes of HBM and of the L2 cache; cores
     hidden NUMBER            bytes of its memory that are reported free and cannot be had
     lost PRODUCTS            after so many products it answers no more

   ASCEND_RT_VISIBLE_DEVICES chooses and orders them, as with the real runtime. */
#ifndef FAKE_ASCEND_SCRIPT_H
#define FAKE_ASCEND_SCRIPT_H
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "acl/acl.h"

namespace fake_ascend {

struct Device {
  std::string uuid;
  size_t memory = size_t(1) << 30, hidden = 0;
  int64_t cache = 1 << 20, cube = 24, vector = 48;
  long long lost = -1;
  std::atomic<size_t> used{0};
  std::atomic<long long> products{0};
  bool is_lost() const { return lost >= 0 && products >= lost; }
};

struct Node {
  std::string soc = "Ascend910B2", version = "8.5.0";
  std::map<std::string, std::string> refused;
  std::vector<Device *> devices;  // those that this process sees
};

__attribute__((visibility("default"))) Node &node();
__attribute__((visibility("default"))) Device &current();                     // of this thread
__attribute__((visibility("default"))) aclError fail(aclError code, const std::string &text);  // with its text, once

}  // namespace fake_ascend
#endif
