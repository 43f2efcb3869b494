// How long threads wait for each other before they let go of their cores.
//
// libgomp's threads spin 300,000 times before they sleep: some 15 ms on recent processors, in which they keep
// the cores from whoever could let them go on, as soon as anyone else computes on the machine. A run of many
// small steps then takes several times as long. libgomp reads the number from the environment when it is
// loaded, before main begins, and offers no call for it. So the program starts itself once more with the
// number set, before any library begins its work, which takes a few milliseconds. Whoever sets GOMP_SPINCOUNT
// or OMP_WAIT_POLICY is obeyed.
#include <cstring>
#include <initializer_list>

#if defined(__linux__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)

#include <elf.h>
#include <limits.h>
#include <sys/auxv.h>
#include <unistd.h>

namespace {

constexpr std::size_t kMaxVariables = 8192;
char spin_count[] = "GOMP_SPINCOUNT=2000";  // some 0.1 ms

// Not even libc has begun: what is called here needs none of its state.
void start_with_short_spins(int /*argc*/, char** argv, char** envp) {
  // Without a loader's address this is an argument of the loader, which /proc names instead.
  if (::getauxval(AT_SECURE) != 0 || ::getauxval(AT_BASE) == 0) return;
  static char* variables[kMaxVariables + 2];
  std::size_t count = 0;
  for (; envp[count] != nullptr; ++count) {
    for (const char* name : {"GOMP_SPINCOUNT=", "OMP_WAIT_POLICY="}) {
      if (std::strncmp(envp[count], name, std::strlen(name)) == 0) return;
    }
    if (count == kMaxVariables) return;
    variables[count] = envp[count];
  }
  variables[count] = spin_count;
  static char program[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof program - 1);
  if (length <= 0 || length == sizeof program - 1) return;
  ::execve(program, argv, variables);  // comes back where that fails: then threads spin
}

__attribute__((section(".preinit_array"),
               used)) void (*const kBeforeAllLibraries)(int, char**, char**) = start_with_short_spins;

}  // namespace

#endif
