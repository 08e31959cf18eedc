/* See CoreFoundation/CoreFoundation.h in this folder. */
#pragma once
#include <CoreFoundation/CoreFoundation.h>
typedef struct sec_key *SecKeyRef;
typedef struct sec_access_control *SecAccessControlRef;
typedef CFStringRef SecKeyAlgorithm;
enum {
	errSecSuccess = 0,
	errSecNotAvailable = -25291,
	errSecDuplicateItem = -25299,
	errSecItemNotFound = -25300,
	errSecInteractionNotAllowed = -25308,
	errSecMissingEntitlement = -34018,
	kSecAccessControlPrivateKeyUsage = 1 << 30
};
extern const CFStringRef kSecClass, kSecClassKey, kSecAttrApplicationTag, kSecAttrKeyType, kSecAttrKeyTypeECSECPrimeRandom,
    kSecReturnRef, kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly, kSecAttrIsPermanent, kSecAttrAccessControl,
    kSecAttrKeySizeInBits, kSecAttrTokenID, kSecAttrTokenIDSecureEnclave, kSecPrivateKeyAttrs, kSecClassGenericPassword,
    kSecAttrService, kSecAttrAccount, kSecAttrSynchronizable, kSecAttrAccessible, kSecReturnData, kSecValueData,
    kSecUseDataProtectionKeychain;
extern const SecKeyAlgorithm kSecKeyAlgorithmECDSASignatureMessageX962SHA256,
    kSecKeyAlgorithmECIESEncryptionStandardX963SHA256AESGCM;
OSStatus SecItemCopyMatching(CFDictionaryRef, CFTypeRef *);
OSStatus SecItemAdd(CFDictionaryRef, CFTypeRef *);
OSStatus SecItemDelete(CFDictionaryRef);
CFDataRef SecKeyCreateEncryptedData(SecKeyRef, SecKeyAlgorithm, CFDataRef, CFErrorRef *);
CFDataRef SecKeyCreateDecryptedData(SecKeyRef, SecKeyAlgorithm, CFDataRef, CFErrorRef *);
SecAccessControlRef SecAccessControlCreateWithFlags(CFAllocatorRef, CFTypeRef, CFOptionFlags, CFErrorRef *);
SecKeyRef SecKeyCreateRandomKey(CFTypeRef, CFErrorRef *);
SecKeyRef SecKeyCopyPublicKey(SecKeyRef);
CFDataRef SecKeyCopyExternalRepresentation(SecKeyRef, CFErrorRef *);
CFDataRef SecKeyCreateSignature(SecKeyRef, SecKeyAlgorithm, CFDataRef, CFErrorRef *);
