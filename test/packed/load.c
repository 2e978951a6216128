// Loads an addon as a process on musl does, where no Node for musl can be had: all that it needs of libc (the names in argv) must be
// in the process, and its two entry points must be there. Node-API itself is looked up when it is first called, and here it never is.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

int main(int argc, char** argv) {
  for (int i = 2; i < argc; i++) {
    if (dlsym(RTLD_DEFAULT, argv[i]) == NULL) {
      fprintf(stderr, "this libc has no %s\n", argv[i]);
      return 1;
    }
  }
  void* addon = dlopen(argv[1], RTLD_LAZY | RTLD_LOCAL);
  if (addon == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  int32_t (*version)(void) = (int32_t(*)(void))dlsym(addon, "node_api_module_get_api_version_v1");
  if (version == NULL || dlsym(addon, "napi_register_module_v1") == NULL) {
    fprintf(stderr, "no entry points\n");
    return 1;
  }
  printf("Node-API %d, %d functions of libc\n", version(), argc - 2);
  return 0;
}
