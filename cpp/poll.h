// Interruption of long work.
#pragma once

namespace cnnrt {

// Called from time to time during long work, on the caller's thread. True stops the work.
using Poll = bool (*)();

}  // namespace cnnrt
