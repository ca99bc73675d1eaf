/* libascendcl.so of the fake: devices, memory, streams and events over host memory and the host's clock.

   Work is done when it is launched, by torch_npu's own queue: an event is recorded when all before it has ended. What
   torch_npu takes from here and what stands here must have the types of the headers that its wheel brings. */
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>
#include <unordered_map>

#include "acl/acl_op_compiler.h"
#include "script.h"

namespace fake_ascend {
namespace {

thread_local int chosen = -1;
std::mutex lock, telling;
std::string recent;
std::unordered_map<void *, std::pair<Device *, size_t>> blocks;

struct Event {
  std::chrono::steady_clock::time_point at;
  bool recorded = false;
};

[[noreturn]] void refuse_script(const std::string &line) {
  std::fprintf(stderr, "fake_ascend: no such line: %s\n", line.c_str());
  std::abort();
}

void read_line(Node &node, std::vector<Device *> &devices, const std::string &line) {
  std::istringstream words(line);
  std::string word;
  if (!(words >> word)) return;
  Device *device = devices.empty() ? nullptr : devices.back();
  if (word == "soc") words >> node.soc;
  else if (word == "version") words >> node.version;
  else if (word == "refuse") {
    std::string name;
    words >> name >> std::ws;
    std::getline(words, node.refused[name]);
  } else if (word == "device") devices.push_back(new Device);
  else if (!device) refuse_script(line);
  else if (word == "uuid") words >> device->uuid;
  else if (word == "memory") words >> device->memory;
  else if (word == "hidden") words >> device->hidden;
  else if (word == "cache") words >> device->cache;
  else if (word == "cube") words >> device->cube;
  else if (word == "vector") words >> device->vector;
  else if (word == "lost") words >> device->lost;
  else refuse_script(line);
}

Node *read_script() {
  auto *node = new Node;
  std::vector<Device *> all;
  const char *path = std::getenv("FAKE_ASCEND");
  std::ifstream file(path ? path : "/dev/null");
  for (std::string line; std::getline(file, line);) read_line(*node, all, line);
  const char *visible = std::getenv("ASCEND_RT_VISIBLE_DEVICES");
  if (!visible) {
    node->devices = all;
    return node;
  }
  std::istringstream numbers(visible);
  for (std::string number; std::getline(numbers, number, ',');) {
    char *end = nullptr;
    unsigned long index = std::strtoul(number.c_str(), &end, 10);
    if (number.empty() || *end || index >= all.size()) break;  // what follows an unknown one is not seen
    node->devices.push_back(all[index]);
  }
  return node;
}

aclError answer() { return current().is_lost() ? fail(ACL_ERROR_RT_LOST_HEARTBEAT, "the device lost its heartbeat") : ACL_SUCCESS; }

aclError choose(int32_t device) {
  if (device < 0 || size_t(device) >= node().devices.size())
    return fail(ACL_ERROR_RT_INVALID_DEVICEID, "there is no device " + std::to_string(device));
  chosen = device;
  return ACL_SUCCESS;
}

aclError take(void **where, size_t size) {
  std::lock_guard<std::mutex> guard(lock);
  Device &device = current();
  if (device.is_lost()) return answer();
  *where = nullptr;
  if (device.used + size + device.hidden > device.memory || posix_memalign(where, 4096, std::max<size_t>(size, 1)))
    return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "malloc memory failed: " + std::to_string(size) + " bytes");
  device.used += size;
  blocks[*where] = {&device, size};
  return ACL_SUCCESS;
}

}  // namespace

Node &node() {
  static Node *read = read_script();
  return *read;
}

Device &current() {
  static Device none;
  if (node().devices.empty()) return none;
  return *node().devices[chosen < 0 ? 0 : chosen];  // torch_npu makes 0 the default device (its acl_default.json)
}

aclError fail(aclError code, const std::string &text) {
  std::lock_guard<std::mutex> guard(telling);
  recent = text;
  return code;
}

}  // namespace fake_ascend

using namespace fake_ascend;

extern "C" {

aclError aclInit(const char *) { return ACL_SUCCESS; }
aclError aclFinalize() { return ACL_SUCCESS; }
const char *aclGetRecentErrMsg() {
  static thread_local std::string kept;
  std::lock_guard<std::mutex> guard(telling);
  kept.swap(recent);
  recent.clear();
  return kept.empty() ? nullptr : kept.c_str();
}
aclError aclsysGetCANNVersion(aclCANNPackageName, aclCANNPackageVersion *version) {
  std::snprintf(version->version, sizeof version->version, "%s", node().version.c_str());
  return ACL_SUCCESS;
}
const char *aclrtGetSocName() { return node().soc.c_str(); }

aclError aclrtGetDeviceCount(uint32_t *count) {
  *count = uint32_t(node().devices.size());
  return *count ? ACL_SUCCESS : aclError(ACL_ERROR_RT_NO_DEVICE);
}
aclError aclrtSetDevice(int32_t device) { return choose(device); }
aclError aclrtResetDevice(int32_t) { return ACL_SUCCESS; }
aclError aclrtGetDevice(int32_t *device) {
  *device = chosen;
  return chosen < 0 ? aclError(ACL_ERROR_RT_CONTEXT_NULL) : ACL_SUCCESS;
}
aclError aclrtGetCurrentContext(aclrtContext *context) {
  *context = reinterpret_cast<aclrtContext>(intptr_t(chosen) + 1);
  return chosen < 0 ? aclError(ACL_ERROR_RT_CONTEXT_NULL) : ACL_SUCCESS;
}
aclError aclrtSetCurrentContext(aclrtContext context) { return choose(int32_t(reinterpret_cast<intptr_t>(context) - 1)); }
aclError aclrtSetDeviceSatMode(aclrtFloatOverflowMode) { return ACL_SUCCESS; }
aclError aclrtSetOpExecuteTimeOut(uint32_t) { return ACL_SUCCESS; }
aclError aclrtDeviceCanAccessPeer(int32_t *can, int32_t, int32_t) {
  *can = 0;
  return ACL_SUCCESS;
}
aclError aclGetDeviceCapability(uint32_t device, aclDeviceInfo what, int64_t *value) {
  const Device &of = *node().devices.at(device);
  *value = what == ACL_DEVICE_INFO_AI_CORE_NUM ? of.cube : what == ACL_DEVICE_INFO_VECTOR_CORE_NUM ? of.vector : of.cache;
  return ACL_SUCCESS;
}
aclError aclrtDeviceGetUuid(int32_t device, aclrtUuid *uuid) {
  const std::string &hex = node().devices.at(device)->uuid;
  if (hex.size() != 2 * sizeof uuid->bytes) return ACL_ERROR_RT_FEATURE_NOT_SUPPORT;
  for (size_t i = 0; i < sizeof uuid->bytes; i++) uuid->bytes[i] = char(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
  return ACL_SUCCESS;
}

aclError aclrtGetMemInfo(aclrtMemAttr, size_t *free, size_t *total) {
  *total = current().memory;
  *free = current().memory - current().used;
  return ACL_SUCCESS;
}
aclError aclrtMalloc(void **where, size_t size, aclrtMemMallocPolicy) { return take(where, size); }
aclError aclrtMallocAlign32(void **where, size_t size, aclrtMemMallocPolicy) { return take(where, size); }
aclError aclrtFree(void *block) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = blocks.find(block);
  if (found == blocks.end()) return fail(ACL_ERROR_RT_PARAM_INVALID, "no memory of a device begins here");
  found->second.first->used -= found->second.second;
  blocks.erase(found);
  std::free(block);
  return ACL_SUCCESS;
}
aclError aclrtMallocHost(void **where, size_t size) {
  return posix_memalign(where, 4096, std::max<size_t>(size, 1)) ? aclError(ACL_ERROR_RT_MEMORY_ALLOCATION) : ACL_SUCCESS;
}
aclError aclrtFreeHost(void *block) {
  std::free(block);
  return ACL_SUCCESS;
}
aclError aclrtMemcpy(void *to, size_t, const void *from, size_t count, aclrtMemcpyKind) {
  std::memmove(to, from, count);
  return answer();
}
aclError aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind, aclrtStream) {
  return aclrtMemcpy(to, room, from, count, kind);
}
aclError aclrtMemset(void *to, size_t, int32_t value, size_t count) {
  std::memset(to, value, count);
  return answer();
}
aclError aclrtMemsetAsync(void *to, size_t room, int32_t value, size_t count, aclrtStream) {
  return aclrtMemset(to, room, value, count);
}

aclError aclrtCreateStreamWithConfig(aclrtStream *stream, uint32_t, uint32_t) {
  *stream = new int(chosen);
  return ACL_SUCCESS;
}
aclError aclrtCreateStream(aclrtStream *stream) { return aclrtCreateStreamWithConfig(stream, 0, 0); }
aclError aclrtDestroyStream(aclrtStream stream) {
  delete static_cast<int *>(stream);
  return ACL_SUCCESS;
}
aclError aclrtDestroyStreamForce(aclrtStream stream) { return aclrtDestroyStream(stream); }
aclError aclrtSynchronizeStream(aclrtStream) { return answer(); }
aclError aclrtSynchronizeStreamWithTimeout(aclrtStream, int32_t) { return answer(); }
aclError aclrtSynchronizeDevice() { return answer(); }
aclError aclrtSynchronizeDeviceWithTimeout(int32_t) { return answer(); }
aclError aclrtStreamQuery(aclrtStream, aclrtStreamStatus *status) {
  *status = ACL_STREAM_STATUS_COMPLETE;
  return answer();
}

aclError aclrtCreateEventExWithFlag(aclrtEvent *event, uint32_t) {
  *event = new Event;
  return ACL_SUCCESS;
}
aclError aclrtCreateEventWithFlag(aclrtEvent *event, uint32_t flag) { return aclrtCreateEventExWithFlag(event, flag); }
aclError aclrtDestroyEvent(aclrtEvent event) {
  delete static_cast<Event *>(event);
  return ACL_SUCCESS;
}
aclError aclrtRecordEvent(aclrtEvent event, aclrtStream) {
  *static_cast<Event *>(event) = {std::chrono::steady_clock::now(), true};
  return ACL_SUCCESS;
}
aclError aclrtResetEvent(aclrtEvent, aclrtStream) { return ACL_SUCCESS; }
aclError aclrtStreamWaitEvent(aclrtStream, aclrtEvent) { return ACL_SUCCESS; }
aclError aclrtSynchronizeEvent(aclrtEvent) { return answer(); }
aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus *status) {
  *status = static_cast<Event *>(event)->recorded ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
  return ACL_SUCCESS;
}
aclError aclrtQueryEventWaitStatus(aclrtEvent, aclrtEventWaitStatus *status) {
  *status = ACL_EVENT_WAIT_STATUS_COMPLETE;
  return ACL_SUCCESS;
}
aclError aclrtEventElapsedTime(float *ms, aclrtEvent first, aclrtEvent last) {
  auto passed = static_cast<Event *>(last)->at - static_cast<Event *>(first)->at;
  *ms = std::chrono::duration<float, std::milli>(passed).count();
  return ACL_SUCCESS;
}

/* Whatever libopapi.so lacks, torch_npu asks the older interface for. This node has none of its operators. */
aclError aclopCompileAndExecute(const char *type, int, const aclTensorDesc *const[], const aclDataBuffer *const[], int,
                                const aclTensorDesc *const[], aclDataBuffer *const[], const aclopAttr *, aclopEngineType,
                                aclopCompileType, const char *, aclrtStream) {
  return fail(ACL_ERROR_OP_NOT_FOUND, std::string("the fake has no operator ") + type);
}

}  // extern "C"
