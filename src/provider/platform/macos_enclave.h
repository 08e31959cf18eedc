/* Keys in a Mac's Secure Enclave. Of platform/macos*.c only. Thread: any. */
#ifndef PROVIDER_MACOS_ENCLAVE_H
#define PROVIDER_MACOS_ENCLAVE_H
#ifdef __APPLE__

#include <CoreFoundation/CoreFoundation.h>
#include <Security/Security.h>

#include "core/str.h"

CFMutableDictionaryRef macos_dictionary(void);
/* The P-256 key of this tag, made when there is none; it never leaves the enclave and is of use after the first unlock, on this
 * device only. NULL where there is no enclave or the keychain refuses (unsigned builds). The caller releases it. */
SecKeyRef macos_enclave_key(struct str tag);

#endif
#endif
