#ifdef __APPLE__
#include "provider/platform/macos_enclave.h"

#include <stdlib.h>

#include "crypto/secret.h"
#include "provider/platform/secret_keeper.h"

/* --- keys --- */

CFMutableDictionaryRef macos_dictionary(void)
{
	return CFDictionaryCreateMutable(NULL, 0, &kCFTypeDictionaryKeyCallBacks, &kCFTypeDictionaryValueCallBacks);
}

static SecKeyRef key_find(CFDataRef tag)
{
	CFMutableDictionaryRef query = macos_dictionary();
	CFTypeRef found = NULL;
	CFDictionarySetValue(query, kSecClass, kSecClassKey);
	CFDictionarySetValue(query, kSecAttrApplicationTag, tag);
	CFDictionarySetValue(query, kSecAttrKeyType, kSecAttrKeyTypeECSECPrimeRandom);
	CFDictionarySetValue(query, kSecReturnRef, kCFBooleanTrue);
	OSStatus status = SecItemCopyMatching(query, &found);
	CFRelease(query);
	return status == errSecSuccess ? (SecKeyRef)(uintptr_t)found : NULL;
}

static SecKeyRef key_create(CFDataRef tag)
{
	SecKeyRef key = NULL;
	int bits = 256;
	CFNumberRef size = CFNumberCreate(NULL, kCFNumberIntType, &bits);
	SecAccessControlRef access = SecAccessControlCreateWithFlags(NULL, kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly,
	                                                             kSecAccessControlPrivateKeyUsage, NULL);
	CFMutableDictionaryRef private_attributes = macos_dictionary(), attributes = macos_dictionary();
	CFDictionarySetValue(private_attributes, kSecAttrIsPermanent, kCFBooleanTrue);
	CFDictionarySetValue(private_attributes, kSecAttrApplicationTag, tag);
	CFDictionarySetValue(private_attributes, kSecAttrAccessControl, access);
	CFDictionarySetValue(attributes, kSecAttrKeyType, kSecAttrKeyTypeECSECPrimeRandom);
	CFDictionarySetValue(attributes, kSecAttrKeySizeInBits, size);
	CFDictionarySetValue(attributes, kSecAttrTokenID, kSecAttrTokenIDSecureEnclave);
	CFDictionarySetValue(attributes, kSecPrivateKeyAttrs, private_attributes);
	key = SecKeyCreateRandomKey(attributes, NULL);
	CFRelease(attributes);
	CFRelease(private_attributes);
	CFRelease(access);
	CFRelease(size);
	return key;
}

SecKeyRef macos_enclave_key(struct str tag)
{
	CFDataRef data = CFDataCreate(NULL, (const UInt8 *)tag.at, (CFIndex)tag.len);
	if (!data)
		return NULL;
	SecKeyRef key = key_find(data);
	if (!key)
		key = key_create(data);
	CFRelease(data);
	return key;
}

/* --- the keeper (inference 11.2): ECIES to a key of the enclave, the blob in the keychain --- */

struct enclave_keeper {
	struct secret_keeper base;
	SecKeyRef key;
};

static SecKeyRef key_of(struct secret_keeper *keeper)
{
	return ((struct enclave_keeper *)keeper)->key;
}

static enum db_err take(CFDataRef data, struct buf *out)
{
	if (!data)
		return DB_E_CRYPTO;
	return buf_append(out, CFDataGetBytePtr(data), (size_t)CFDataGetLength(data));
}

static enum db_err enclave_wrap(struct secret_keeper *keeper, const uint8_t secret[PLATFORM_SECRET_BYTES], struct buf *blob,
                                struct error *error)
{
	/* It borrows the bytes: CFData would keep a copy that nobody wipes. */
	CFDataRef plain = CFDataCreateWithBytesNoCopy(NULL, secret, PLATFORM_SECRET_BYTES, kCFAllocatorNull);
	SecKeyRef public_key = SecKeyCopyPublicKey(key_of(keeper));
	CFDataRef sealed = NULL;
	if (plain && public_key)
		sealed = SecKeyCreateEncryptedData(public_key, kSecKeyAlgorithmECIESEncryptionStandardX963SHA256AESGCM, plain, NULL);
	enum db_err err = take(sealed, blob);
	if (sealed)
		CFRelease(sealed);
	if (public_key)
		CFRelease(public_key);
	if (plain)
		CFRelease(plain);
	return err ? error_set(error, err, "the Secure Enclave's key could not seal the secret") : DB_OK;
}

static bool is_for_now(CFErrorRef why)
{
	CFIndex code = why ? CFErrorGetCode(why) : 0;
	return code == errSecInteractionNotAllowed || code == errSecNotAvailable || code == errSecMissingEntitlement;
}

static enum db_err enclave_unwrap(struct secret_keeper *keeper, struct str blob, uint8_t secret[PLATFORM_SECRET_BYTES],
                                  struct error *error)
{
	CFErrorRef why = NULL;
	CFDataRef sealed = CFDataCreate(NULL, (const UInt8 *)blob.at, (CFIndex)blob.len), plain = NULL;
	if (!sealed)
		return error_set(error, DB_E_NOMEM, "out of memory");
	plain = SecKeyCreateDecryptedData(key_of(keeper), kSecKeyAlgorithmECIESEncryptionStandardX963SHA256AESGCM, sealed, &why);
	enum db_err err = DB_OK;
	if (plain && CFDataGetLength(plain) == PLATFORM_SECRET_BYTES)
		memcpy(secret, CFDataGetBytePtr(plain), PLATFORM_SECRET_BYTES);
	else if (!plain && is_for_now(why))
		err =
		    error_set(error, DB_E_DENIED, "the keychain does not give the key now (%ld): log in once after a start of this Mac",
		              (long)CFErrorGetCode(why));
	else
		err =
		    error_set(error, DB_E_CRYPTO, "what the keychain holds was not sealed to this Mac's Secure Enclave, or is damaged");
	if (plain) {
		secret_wipe((void *)(uintptr_t)CFDataGetBytePtr(plain), (size_t)CFDataGetLength(plain));
		CFRelease(plain);
	}
	if (why)
		CFRelease(why);
	CFRelease(sealed);
	return err;
}

static CFMutableDictionaryRef keychain_item(void)
{
	CFMutableDictionaryRef item = macos_dictionary();
	CFStringRef service = CFStringCreateWithCString(NULL, "io.darkbloom.kv.kek.v1", kCFStringEncodingUTF8);
	CFStringRef account = CFStringCreateWithCString(NULL, "default", kCFStringEncodingUTF8);
	CFDictionarySetValue(item, kSecClass, kSecClassGenericPassword);
	CFDictionarySetValue(item, kSecAttrService, service);
	CFDictionarySetValue(item, kSecAttrAccount, account);
	CFDictionarySetValue(item, kSecAttrSynchronizable, kCFBooleanFalse);
	CFDictionarySetValue(item, kSecUseDataProtectionKeychain, kCFBooleanTrue); /* the other one knows no `this device only` */
	CFRelease(service);
	CFRelease(account);
	return item;
}

static enum db_err refused(OSStatus status, const char *what, struct error *error)
{
	if (status == errSecDuplicateItem || status == errSecItemNotFound)
		return error_set(error, status == errSecDuplicateItem ? DB_E_EXISTS : DB_E_NOT_FOUND, "the keychain's item: %s", what);
	return error_set(error, status == errSecInteractionNotAllowed ? DB_E_DENIED : DB_E_IO,
	                 "the keychain's item io.darkbloom.kv.kek.v1 could not be %s (status %d)", what, (int)status);
}

static enum db_err enclave_load(struct secret_keeper *keeper, struct buf *blob, struct error *error)
{
	(void)keeper;
	CFTypeRef found = NULL;
	CFMutableDictionaryRef query = keychain_item();
	CFDictionarySetValue(query, kSecReturnData, kCFBooleanTrue);
	OSStatus status = SecItemCopyMatching(query, &found);
	CFRelease(query);
	if (status != errSecSuccess)
		return refused(status, "read", error);
	enum db_err err = take((CFDataRef)found, blob);
	CFRelease(found);
	return err ? error_set(error, DB_E_CRYPTO, "the keychain's item is too large for a sealed secret") : DB_OK;
}

static enum db_err enclave_save(struct secret_keeper *keeper, struct str blob, struct error *error)
{
	(void)keeper;
	CFDataRef data = CFDataCreate(NULL, (const UInt8 *)blob.at, (CFIndex)blob.len);
	if (!data)
		return error_set(error, DB_E_NOMEM, "out of memory");
	CFMutableDictionaryRef item = keychain_item();
	CFDictionarySetValue(item, kSecAttrAccessible, kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly);
	CFDictionarySetValue(item, kSecValueData, data);
	OSStatus status = SecItemAdd(item, NULL);
	CFRelease(item);
	CFRelease(data);
	return status == errSecSuccess ? DB_OK : refused(status, "made", error);
}

static enum db_err enclave_discard(struct secret_keeper *keeper, struct error *error)
{
	(void)keeper;
	CFMutableDictionaryRef query = keychain_item();
	OSStatus status = SecItemDelete(query);
	CFRelease(query);
	return status == errSecSuccess || status == errSecItemNotFound ? DB_OK : refused(status, "removed", error);
}

static void enclave_close(struct secret_keeper *keeper)
{
	CFRelease(key_of(keeper));
	free(keeper);
}

struct secret_keeper *enclave_keeper_open(struct error *error)
{
	static const struct secret_keeper_ops ops = {.kind = PLATFORM_KEEPER_SECURE_ENCLAVE,
	                                             .wrap = enclave_wrap,
	                                             .unwrap = enclave_unwrap,
	                                             .load = enclave_load,
	                                             .save = enclave_save,
	                                             .discard = enclave_discard,
	                                             .close = enclave_close};
	struct enclave_keeper *keeper = calloc(1, sizeof *keeper);
	if (!keeper) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	keeper->base.ops = &ops;
	keeper->key = macos_enclave_key(STR("io.darkbloom.kv.kek"));
	if (keeper->key)
		return &keeper->base;
	free(keeper);
	error_set(error, DB_E_UNSUPPORTED, "this Mac has no Secure Enclave, or this program is not signed to use it");
	return NULL;
}

#endif
