/* libacl_op_compiler.so of the fake: options of operators that are compiled at their launch, which none here is. */
#include "acl/acl_op_compiler.h"

extern "C" {
aclError aclSetCompileopt(aclCompileOpt, const char *) { return ACL_SUCCESS; }
aclError aclrtCtxSetSysParamOpt(aclSysParamOpt, int64_t) { return ACL_SUCCESS; }
aclError aclrtSetSysParamOpt(aclSysParamOpt, int64_t) { return ACL_SUCCESS; }
aclError aclrtGetSysParamOpt(aclSysParamOpt, int64_t *value) { return *value = 0, ACL_SUCCESS; }
}
