/* How this binary was built, for code that depends on it. */
#ifndef TARRY_BASE_BUILD_H
#define TARRY_BASE_BUILD_H

/* Built with AddressSanitizer. It reads its own process, maps memory and starts programs, so a
 * sandbox that forbids these would break it. */
#if defined(__SANITIZE_ADDRESS__)
#define BUILD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUILD_SANITIZED 1
#endif
#endif
#ifndef BUILD_SANITIZED
#define BUILD_SANITIZED 0
#endif

#endif
