/* See CoreFoundation/CoreFoundation.h in this folder. */
#pragma once
#include <CoreFoundation/CoreFoundation.h>
typedef struct sec_key *SecKeyRef;
typedef struct sec_access_control *SecAccessControlRef;
typedef CFStringRef SecKeyAlgorithm;
enum { errSecSuccess = 0, kSecAccessControlPrivateKeyUsage = 1 << 30 };
extern const CFStringRef kSecClass, kSecClassKey, kSecAttrApplicationTag, kSecAttrKeyType, kSecAttrKeyTypeECSECPrimeRandom,
    kSecReturnRef, kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly, kSecAttrIsPermanent, kSecAttrAccessControl,
    kSecAttrKeySizeInBits, kSecAttrTokenID, kSecAttrTokenIDSecureEnclave, kSecPrivateKeyAttrs;
extern const SecKeyAlgorithm kSecKeyAlgorithmECDSASignatureMessageX962SHA256;
OSStatus SecItemCopyMatching(CFTypeRef, CFTypeRef *);
SecAccessControlRef SecAccessControlCreateWithFlags(CFAllocatorRef, CFTypeRef, CFOptionFlags, CFErrorRef *);
SecKeyRef SecKeyCreateRandomKey(CFTypeRef, CFErrorRef *);
SecKeyRef SecKeyCopyPublicKey(SecKeyRef);
CFDataRef SecKeyCopyExternalRepresentation(SecKeyRef, CFErrorRef *);
CFDataRef SecKeyCreateSignature(SecKeyRef, SecKeyAlgorithm, CFDataRef, CFErrorRef *);
