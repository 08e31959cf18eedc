/* The description of the HTTP surface that GET /openapi.json serves: openapi.json beside this file, compiled in. A test
 * compares it with the route table; whoever adds a route describes it there. Thread: any. */
#ifndef COORDINATOR_OPENAPI_H
#define COORDINATOR_OPENAPI_H

extern const char openapi_document[];

#endif
