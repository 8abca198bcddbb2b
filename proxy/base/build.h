/* How this binary was built, where code has to know. */
#ifndef TARRY_BASE_BUILD_H
#define TARRY_BASE_BUILD_H

/* With AddressSanitizer, which looks into its own process, maps what it likes, and starts programs:
 * fences against all that are in its way. */
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
