/* How this binary was built, where code has to know. */
#ifndef TARRY_BASE_BUILD_H
#define TARRY_BASE_BUILD_H

/* Built with AddressSanitizer, which reads its own process, maps memory as it likes and starts
 * programs: sandboxes that forbid these would break it. */
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
