/* See CoreFoundation/CoreFoundation.h in this folder. */
#pragma once
#include <CoreFoundation/CoreFoundation.h>
typedef uint32_t IOPMAssertionID;
#define kIOPMAssertionTypePreventUserIdleSystemSleep                                                                           \
	CFStringCreateWithCString(0, "PreventUserIdleSystemSleep", kCFStringEncodingUTF8)
enum { kIOPMAssertionLevelOn = 255 };
int IOPMAssertionCreateWithName(CFStringRef, uint32_t, CFStringRef, IOPMAssertionID *);
