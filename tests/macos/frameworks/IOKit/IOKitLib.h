/* See CoreFoundation/CoreFoundation.h in this folder. */
#pragma once
#include <CoreFoundation/CoreFoundation.h>
typedef unsigned int io_service_t;
extern const unsigned int kIOMainPortDefault;
CFMutableDictionaryRef IOServiceMatching(const char *);
io_service_t IOServiceGetMatchingService(unsigned int, CFMutableDictionaryRef);
CFTypeRef IORegistryEntryCreateCFProperty(unsigned int, CFStringRef, CFAllocatorRef, uint32_t);
int IOObjectRelease(unsigned int);
