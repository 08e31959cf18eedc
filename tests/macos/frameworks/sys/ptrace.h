/* See CoreFoundation/CoreFoundation.h in this folder. */
#pragma once
#include <sys/types.h>
#define PT_DENY_ATTACH 31
int ptrace(int, pid_t, char *, int);
