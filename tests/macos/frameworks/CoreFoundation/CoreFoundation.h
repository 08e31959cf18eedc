/* Declarations of the Apple frameworks that src/provider/platform/macos.c uses, written from their public documentation. Only
 * the cross-compile check includes them; a build on a Mac uses the real headers. */
#pragma once
#include <stdint.h>
typedef const void *CFTypeRef;
typedef const struct cf_string *CFStringRef;
typedef const struct cf_data *CFDataRef;
typedef const struct cf_number *CFNumberRef;
typedef const struct cf_boolean *CFBooleanRef;
typedef const struct cf_dictionary *CFDictionaryRef;
typedef struct cf_dictionary *CFMutableDictionaryRef;
typedef const struct cf_allocator *CFAllocatorRef;
typedef struct cf_error *CFErrorRef;
typedef long CFIndex;
typedef unsigned long CFTypeID;
typedef uint8_t UInt8;
typedef unsigned char Boolean;
typedef int32_t OSStatus;
typedef uint32_t CFStringEncoding;
typedef CFIndex CFNumberType;
typedef unsigned long CFOptionFlags;
enum { kCFStringEncodingUTF8 = 0x08000100, kCFNumberSInt64Type = 4, kCFNumberIntType = 9 };
typedef struct {
	int unused;
} CFDictionaryKeyCallBacks, CFDictionaryValueCallBacks;
extern const CFDictionaryKeyCallBacks kCFTypeDictionaryKeyCallBacks;
extern const CFDictionaryValueCallBacks kCFTypeDictionaryValueCallBacks;
extern const CFBooleanRef kCFBooleanTrue, kCFBooleanFalse;
extern const CFAllocatorRef kCFAllocatorNull;
void CFRelease(CFTypeRef);
CFTypeID CFGetTypeID(CFTypeRef);
CFTypeID CFStringGetTypeID(void);
CFTypeID CFNumberGetTypeID(void);
CFStringRef CFStringCreateWithCString(CFAllocatorRef, const char *, CFStringEncoding);
Boolean CFStringGetCString(CFStringRef, char *, CFIndex, CFStringEncoding);
CFNumberRef CFNumberCreate(CFAllocatorRef, CFNumberType, const void *);
Boolean CFNumberGetValue(CFNumberRef, CFNumberType, void *);
CFIndex CFErrorGetCode(CFErrorRef);
CFDataRef CFDataCreateWithBytesNoCopy(CFAllocatorRef, const UInt8 *, CFIndex, CFAllocatorRef);
CFDataRef CFDataCreate(CFAllocatorRef, const UInt8 *, CFIndex);
const UInt8 *CFDataGetBytePtr(CFDataRef);
CFIndex CFDataGetLength(CFDataRef);
CFMutableDictionaryRef CFDictionaryCreateMutable(CFAllocatorRef, CFIndex, const CFDictionaryKeyCallBacks *,
                                                 const CFDictionaryValueCallBacks *);
void CFDictionarySetValue(CFMutableDictionaryRef, const void *, const void *);
