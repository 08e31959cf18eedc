// Everything C++ of this process that is not the library: allocation, templates and their rendering. Grammars and readers have
// files of their own.
#include "provider/engine/chat_shim.hpp"

#include "llama-ext.h"
#include "log.h"

#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__APPLE__)
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

// --- a wiping allocator for everything C++ in this process ---------------------------------------------------------------

static size_t block_size(void *at)
{
#if defined(__APPLE__)
	return malloc_size(at);
#else
	return malloc_usable_size(at);
#endif
}

static void wipe(void *at, size_t len)
{
	std::memset(at, 0, len);
	__asm__ __volatile__("" : : "r"(at) : "memory"); // the compiler must not drop a store to memory that is freed next
}

static void *allocate(size_t len)
{
	for (;;) {
		if (void *at = std::malloc(len ? len : 1))
			return at;
		std::new_handler handler = std::get_new_handler();
		if (!handler)
			throw std::bad_alloc();
		handler();
	}
}

void *operator new(size_t len)
{
	return allocate(len);
}

void *operator new[](size_t len)
{
	return allocate(len);
}

void operator delete(void *at) noexcept
{
	if (!at)
		return;
	wipe(at, block_size(at));
	std::free(at);
}

void operator delete[](void *at) noexcept
{
	operator delete(at);
}

void operator delete(void *at, size_t) noexcept
{
	operator delete(at);
}

void operator delete[](void *at, size_t) noexcept
{
	operator delete(at);
}

// --- process -------------------------------------------------------------------------------------------------------------

void chat_shim_init(void)
{
	common_log_set_verbosity_thold(INT_MIN);
}

int32_t chat_shim_default_threads(void)
{
	int32_t threads = common_cpu_get_num_math();
	return threads > 0 ? threads : 1;
}

uint64_t chat_shim_memory_bytes(const struct llama_context *context, bool weights)
{
	uint64_t sum = 0;
	try {
		for (const auto &[kind, held] : llama_get_memory_breakdown(context))
			sum += held.context + held.compute + (weights ? held.model : 0);
	} catch (const std::exception &) {
		return 0; // without memory for the list: as if nothing were known
	}
	return sum;
}

void chat_say(char *error, size_t size, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (size)
		vsnprintf(error, size, format, args);
	va_end(args);
}

// --- templates -----------------------------------------------------------------------------------------------------------

struct chat_templates *chat_templates_new(const struct llama_model *model, const char *override_or_null, char *error,
                                          size_t error_size)
{
	try {
		auto result = std::make_unique<chat_templates>();
		result->templates = common_chat_templates_init(model, override_or_null ? override_or_null : "");
		result->model = model;
		result->source = common_chat_templates_source(result->templates.get());
		result->controls = std::make_unique<control_words>(llama_model_get_vocab(model));
		return result.release();
	} catch (const std::exception &) {
		chat_say(error, error_size, "the model's chat template does not parse");
		return nullptr;
	}
}

void chat_templates_free(struct chat_templates *templates)
{
	delete templates;
}

void chat_templates_caps(const struct chat_templates *templates, struct chat_caps *out)
{
	auto can = common_chat_templates_get_caps(templates->templates.get());
	*out = {};
	out->has_template = common_chat_templates_was_explicit(templates->templates.get());
	out->tools = can["supports_tools"];
	out->tool_calls = can["supports_tool_calls"];
	out->parallel_tool_calls = can["supports_parallel_tool_calls"];
	out->reasoning_effort = templates->source.find("reasoning_effort") != std::string::npos;
}

void chat_templates_cache_counts(const struct chat_templates *templates, size_t *hits, size_t *misses)
{
	*hits = templates->grammars.hits;
	*misses = templates->grammars.misses;
}

// --- exceptions of llama.cpp ---------------------------------------------------------------------------------------------

int32_t chat_shim_tokenize(const struct llama_vocab *vocab, const char *text, size_t len, int32_t *tokens, int32_t max,
                           bool add_special, bool parse_special)
{
	if (len > INT32_MAX)
		return INT32_MIN;
	try {
		return llama_tokenize(vocab, text, (int32_t)len, tokens, max, add_special, parse_special);
	} catch (const std::exception &) {
		return INT32_MIN;
	}
}

int32_t chat_shim_decode(struct llama_context *context, const struct llama_batch *batch)
{
	try {
		return llama_decode(context, *batch);
	} catch (const std::exception &) {
		return -100;
	}
}
