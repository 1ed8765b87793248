// Which algorithm runs an operation. All ranks that agree on the operation choose alike.
#pragma once

#include <memory>

#include "libddp/comm/exchange/exchange.h"
#include "libddp/comm/exchange/slots.h"

namespace ddp::comm {

/// For a checked operation among `team` (at least two ranks), whose buffers must outlive the exchange.
[[nodiscard]] std::unique_ptr<Exchange> plan(const Operation& operation, Team team, int streams,
                                             Slots& slots);

}  // namespace ddp::comm
