// Names in the folder of a tuned lens, as the tuned-lens package gives them.
#pragma once

namespace depthlens::lens {

inline constexpr const char* kTunedParameters = "params.pt";
inline constexpr const char* kTunedConfig = "config.json";

}  // namespace depthlens::lens
