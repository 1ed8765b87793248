// Which algorithm runs an operation. All ranks that agree on the operation choose alike.
#pragma once

#include <memory>

#include "libddp/comm/host/tcp/exchange.h"
#include "libddp/comm/host/tcp/slots.h"

namespace ddp::host {

/// For a checked operation among `team` (at least two ranks), whose buffers must outlive the exchange.
[[nodiscard]] std::unique_ptr<Exchange> plan(const Operation& operation, Team team, int streams,
                                             Slots& slots);

}  // namespace ddp::host
