// Ctrl-C and SIGTERM.
#include "depthlens/util/interrupt.hpp"

#include <csignal>

namespace depthlens::util {
namespace {

volatile std::sig_atomic_t signals_seen = 0;

void on_signal(int signal) {
  signals_seen = signals_seen + 1;
  if (signals_seen >= 2) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() {
  return signals_seen > 0;
}

}  // namespace depthlens::util
