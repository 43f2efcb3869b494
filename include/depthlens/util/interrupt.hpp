// Ctrl-C and SIGTERM: a flag that long loops look at between batches. A second signal ends the program at
// once.
#pragma once

namespace depthlens::util {

void install_interrupt_handlers();
bool interrupted();

}  // namespace depthlens::util
