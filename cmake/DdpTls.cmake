# DDP_TLS=AUTO|ON|OFF -> DDP_WITH_TLS: whether the store's connections are encrypted (TLS 1.3 with a pre-shared key, libddp/rendezvous/tls.h).
# It chooses one of two source files; nothing is compiled conditionally. libssl is needed only when it is on.
include(CheckCXXSourceCompiles)
include(CMakePushCheckState)

# ddp_check_tls(VARIABLE): whether OpenSSL::SSL has what tls_openssl.cpp uses. LibreSSL and BoringSSL, for example, have no external PSK.
function(ddp_check_tls variable)
  if(NOT TARGET OpenSSL::SSL)
    set(${variable} OFF PARENT_SCOPE)
    return()
  endif()
  cmake_push_check_state(RESET)
  set(CMAKE_REQUIRED_LIBRARIES OpenSSL::SSL OpenSSL::Crypto)
  set(CMAKE_REQUIRED_QUIET ON)
  check_cxx_source_compiles("
    #include <openssl/ssl.h>
    #if defined(OPENSSL_NO_PSK) || defined(OPENSSL_NO_TLS1_3) || !defined(TLS1_3_VERSION)
    #error without TLS 1.3 or pre-shared keys
    #endif
    int main() {
      SSL_CTX* context = SSL_CTX_new(TLS_server_method());
      SSL_CTX_set_psk_find_session_callback(context, nullptr);
      SSL_CTX_set_psk_use_session_callback(context, nullptr);
      SSL_CTX_set_num_tickets(context, 0);
    }" DDP_OPENSSL_HAS_TLS13_PSK)
  cmake_pop_check_state()
  set(${variable} ${DDP_OPENSSL_HAS_TLS13_PSK} PARENT_SCOPE)
endfunction()

string(TOUPPER "${DDP_TLS}" ddp_tls)
if(NOT ddp_tls MATCHES "^(AUTO|ON|OFF|1|0|TRUE|FALSE|YES|NO)$")
  message(FATAL_ERROR "DDP_TLS=${DDP_TLS}: give ON, OFF or AUTO")
endif()
find_package(OpenSSL REQUIRED COMPONENTS Crypto OPTIONAL_COMPONENTS SSL)
set(DDP_WITH_TLS OFF)
if(ddp_tls STREQUAL "AUTO")
  ddp_check_tls(DDP_WITH_TLS)
elseif(ddp_tls)
  ddp_check_tls(DDP_WITH_TLS)
  if(NOT DDP_WITH_TLS)
    message(FATAL_ERROR "DDP_TLS=${DDP_TLS}, but this OpenSSL (${OPENSSL_VERSION}, ${OPENSSL_INCLUDE_DIR}) has no TLS 1.3 with external "
      "pre-shared keys: install OpenSSL 1.1.1 or newer (libssl-dev), or choose DDP_TLS=OFF to leave the store's connections in clear")
  endif()
endif()
if(DDP_WITH_TLS)
  message(STATUS "Store connections: TLS 1.3 (DDP_TLS=${DDP_TLS})")
else()
  message(STATUS "Store connections: authenticated, not encrypted (DDP_TLS=${DDP_TLS})")
endif()
