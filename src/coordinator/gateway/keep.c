/* The record that each request leaves, routed or refused (record.h). */
#include "coordinator/gateway/call.h"

#include "core/clock.h"
#include "core/json.h"

#define ASKED_MAX (1u << 20) /* larger bodies are not read a second time for their model */

const struct records *gateway_records(const struct gateway *gateway)
{
	return &gateway->records;
}

void gateway_restore_record(struct gateway *gateway, const struct record *record)
{
	records_restore(&gateway->records, record);
}

uint64_t keep_digest(const struct gateway *gateway, const struct caller *caller)
{
	return caller->account ? map_hash(gateway->record_seed, str_of(ledger_account_id(caller->account))) : 0;
}

void keep_note_error(struct record *record, const struct api_error *error, const char *by)
{
	const char *reason = by ? by : error->code ? error->code : error->type;
	record->status = error->status;
	(void)str_copy(str_of(error->type), record->outcome, sizeof record->outcome);
	(void)str_copy(str_of(reason), record->reason, sizeof record->reason);
}

void keep_record(struct gateway *gateway, const struct record *record)
{
	records_add(&gateway->records, record);
	if (gateway->options.log)
		record_log_add(gateway->options.log, record);
}

void keep_begin(struct call *call)
{
	struct record *record = &call->record;
	record_init(record);
	record->at_us = clock_wall_us();
	record->account = keep_digest(call->gateway, &call->caller);
	record->prompt_tokens = call->prompt_estimate;
	record->max_tokens = (uint64_t)call->output_tokens;
	record->tools = call->request->has_tools;
	record->vision = call->request->has_media;
	record->stream = call->stream;
	memcpy(record->id, call->id, sizeof record->id);
	memcpy(record->public_model, call->public_model, sizeof record->public_model);
}

void keep_end(struct call *call)
{
	struct record *record = &call->record;
	memcpy(record->model, call->model, sizeof record->model);
	record->attempts = call->attempts_made;
	record->capacity_failures = call->capacity_failures;
	record->queue_us = call->queue_us;
	if (!record->outcome[0])
		(void)str_copy(STR("client_gone"), record->outcome, sizeof record->outcome);
	keep_record(call->gateway, record);
}

void keep_asked_model(struct str body, struct record *record)
{
	struct str model;
	struct json_doc *doc = body.len <= ASKED_MAX ? json_parse(body, NULL, NULL) : NULL;
	if (doc && json_as_str(json_get(json_root(doc), "model"), &model)) {
		size_t len = model.len < sizeof record->public_model ? model.len : sizeof record->public_model - 1;
		for (size_t i = 0; i < len; i++)
			record->public_model[i] = model.at[i] >= ' ' && model.at[i] <= '~' ? model.at[i] : '?';
		record->public_model[len] = '\0';
	}
	json_free(doc);
}

void keep_refused(struct gateway *gateway, struct exchange *exchange, const struct api_error *error, struct record *record)
{
	exchange->on_refused = NULL;
	id_uuid7(record->id);
	record->at_us = clock_wall_us();
	record->account = keep_digest(gateway, &exchange->caller);
	keep_note_error(record, error, exchange->refused_by);
	keep_record(gateway, record);
	exchange_header(exchange, "X-Inference-Job-ID", str_of(record->id));
}

void gateway_refused(struct exchange *exchange, const struct api_error *error, void *gateway)
{
	struct record record;
	record_init(&record);
	keep_refused(gateway, exchange, error, &record);
}
