/* The coordinator's program: its commands, and the hardening of the process. */
#include "coordinator/admin.h"
#include "coordinator/books_admin.h"
#include "coordinator/database.h"
#include "coordinator/operator.h"
#include "coordinator/serve.h"
#include "coordinator/state_admin.h"
#include "core/cli.h"
#include "core/log.h"
#include "core/version.h"
#include "crypto/secret.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#define CONFIG_OPTION                                                                                                          \
	{                                                                                                                          \
		"config", 'c', "FILE", false, "TOML file to read; without it every setting has its default"                            \
	}
#define KEY_FILE_OPTION                                                                                                        \
	{                                                                                                                          \
		"key-file", 0, "FILE", false, "write a new API key here, mode 0600, instead of printing it"                            \
	}
#define END_OF_OPTIONS                                                                                                         \
	{                                                                                                                          \
		.name = NULL                                                                                                           \
	}

/* Prompts are in this process's memory: no core dumps, no debugger of the same user. */
static void harden(void)
{
	struct rlimit none = {0, 0};
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		log_warn("process.core_dumps_stay_on", "error=%s", strerror(errno));
#ifdef __linux__
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		log_warn("process.stays_dumpable", "error=%s", strerror(errno));
#endif
}

/* One descriptor for each provider: as many as the system lets us have. */
static void raise_limits(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= files.rlim_max)
		return;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) != 0)
		log_warn("process.descriptors_stay_few", "error=%s", strerror(errno));
}

/* Reads the configuration and runs one command with it. */
static int with_config(const struct cli_args *args, int (*run)(const struct cli_args *args, const struct coordinator_config *))
{
	struct coordinator_config config;
	struct error error;
	struct arena *arena = arena_new(0);
	int status = CLI_CONFIG;
	if (!arena)
		return CLI_FAILED;
	if (coordinator_config_load(&config, cli_value(args, "config"), arena, &error) == DB_OK) {
		log_set_level((enum log_level)config.level);
		status = run(args, &config);
	} else {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
	}
	arena_free(arena);
	return status;
}

static int serve_with(const struct cli_args *args, const struct coordinator_config *config)
{
	int64_t port, ready_fd;
	struct coordinator_config adjusted = *config;
	if (!cli_int(args, "port", config->port, 0, 65535, &port) || !cli_int(args, "ready-fd", -1, 0, 1000000, &ready_fd))
		return CLI_USAGE;
	adjusted.port = port;
	if (cli_flag(args, "check-config")) {
		printf("The configuration is right. Database: %s\n", config->store_url[0] ? "PostgreSQL" : config->database);
		return CLI_OK;
	}
	struct serve_options options = {.config = &adjusted,
	                                .key_file = cli_value(args, "key-file"),
	                                .port_file = cli_value(args, "port-file"),
	                                .ready_fd = (int)ready_fd};
	return serve(&options);
}

static int run_serve(const struct cli_args *args)
{
	return with_config(args, serve_with);
}

static int key_create_with(const struct cli_args *args, const struct coordinator_config *config)
{
	const char *account = cli_value(args, "account"), *name = cli_value(args, "name");
	struct operator_key key = {.account = account ? account : "owner",
	                           .name = name ? name : "",
	                           .scopes = cli_value(args, "scopes"),
	                           .limit_usd = cli_value(args, "limit-usd"),
	                           .reset = cli_value(args, "reset"),
	                           .key_file = cli_value(args, "key-file")};
	return operator_key_create(config, &key);
}

static int keys_list_with(const struct cli_args *args, const struct coordinator_config *config)
{
	const char *account = cli_value(args, "account");
	return operator_keys_list(config, account ? account : "owner", cli_flag(args, "json"));
}

static int run_keys_list(const struct cli_args *args)
{
	return with_config(args, keys_list_with);
}

static int key_revoke_with(const struct cli_args *args, const struct coordinator_config *config)
{
	if (cli_arg_count(args) != 1) {
		fprintf(stderr, "darkbloom-coordinator: keys revoke needs the id of a key: see `darkbloom-coordinator keys list`.\n");
		return CLI_USAGE;
	}
	return operator_key_revoke(config, cli_arg(args, 0));
}

static int run_key_revoke(const struct cli_args *args)
{
	return with_config(args, key_revoke_with);
}

static int run_key_create(const struct cli_args *args)
{
	return with_config(args, key_create_with);
}

static int give_with(const struct cli_args *args, const struct coordinator_config *config, const char *kind)
{
	if (cli_arg_count(args) != 2) {
		fprintf(stderr, "darkbloom-coordinator: %s needs an account and an amount: %s owner 25\n", kind, kind);
		return CLI_USAGE;
	}
	return operator_give(config, kind, cli_arg(args, 0), cli_arg(args, 1), cli_value(args, "reason"));
}

static int credit_with(const struct cli_args *args, const struct coordinator_config *config)
{
	return give_with(args, config, "credit");
}

static int run_credit(const struct cli_args *args)
{
	return with_config(args, credit_with);
}

static int explain_with(const struct cli_args *args, const struct coordinator_config *config)
{
	if (cli_arg_count(args) != 1) {
		fprintf(stderr, "darkbloom-coordinator: explain needs the id of a request: the job id of its answer\n");
		return CLI_USAGE;
	}
	return operator_explain(config, cli_arg(args, 0), cli_flag(args, "json"));
}

static int run_explain(const struct cli_args *args)
{
	return with_config(args, explain_with);
}

static int reward_with(const struct cli_args *args, const struct coordinator_config *config)
{
	return give_with(args, config, "reward");
}

static int run_reward(const struct cli_args *args)
{
	return with_config(args, reward_with);
}

static int close_with(const struct cli_args *args, const struct coordinator_config *config)
{
	(void)args;
	return operator_ledger_close(config);
}

static int run_ledger_close(const struct cli_args *args)
{
	return with_config(args, close_with);
}

static int export_with(const struct cli_args *args, const struct coordinator_config *config)
{
	struct books_export options = {.format = cli_value(args, "format"),
	                               .from = cli_value(args, "from"),
	                               .to = cli_value(args, "to"),
	                               .account = cli_value(args, "account")};
	return books_export(config, &options);
}

static int run_ledger_export(const struct cli_args *args)
{
	return with_config(args, export_with);
}

static int audit_with(const struct cli_args *args, const struct coordinator_config *config)
{
	int64_t limit;
	if (!cli_int(args, "limit", 50, 1, 1000000000, &limit))
		return CLI_USAGE;
	return books_trail(config, limit, cli_flag(args, "json"), cli_flag(args, "verify"));
}

static int run_audit(const struct cli_args *args)
{
	return with_config(args, audit_with);
}

static int verify_with(const struct cli_args *args, const struct coordinator_config *config)
{
	(void)args;
	return admin_ledger_verify(config);
}

static int run_ledger_verify(const struct cli_args *args)
{
	return with_config(args, verify_with);
}

static int migrate_with(const struct cli_args *args, const struct coordinator_config *config)
{
	(void)args;
	return database_migrate(config);
}

static int run_migrate(const struct cli_args *args)
{
	return with_config(args, migrate_with);
}

static int folder_with(const struct cli_args *args, const struct coordinator_config *config,
                       int (*run)(const struct coordinator_config *config, const char *folder))
{
	if (cli_arg_count(args) == 1)
		return run(config, cli_arg(args, 0));
	fprintf(stderr, "darkbloom-coordinator: this needs the folder of the backup: /var/backups/darkbloom-2026-11-23\n");
	return CLI_USAGE;
}

static int backup_with(const struct cli_args *args, const struct coordinator_config *config)
{
	return folder_with(args, config, database_backup);
}

static int run_backup(const struct cli_args *args)
{
	return with_config(args, backup_with);
}

static int restore_with(const struct cli_args *args, const struct coordinator_config *config)
{
	return folder_with(args, config, database_restore);
}

static int run_restore(const struct cli_args *args)
{
	return with_config(args, restore_with);
}

static int reconcile_with(const struct cli_args *args, const struct coordinator_config *config)
{
	return operator_reconcile(config, cli_flag(args, "json"));
}

static int run_reconcile(const struct cli_args *args)
{
	return with_config(args, reconcile_with);
}

static int run_state_key(const struct cli_args *args)
{
	if (cli_arg_count(args) == 1)
		return state_admin_key(cli_arg(args, 0));
	fprintf(stderr, "darkbloom-coordinator: state-key needs the file to write the identity to.\n");
	return CLI_USAGE;
}

static int export_state_with(const struct cli_args *args, const struct coordinator_config *config)
{
	if (cli_arg_count(args) == 1)
		return state_admin_export(config, cli_value(args, "recipient"), cli_arg(args, 0));
	fprintf(stderr, "darkbloom-coordinator: export-state needs the file to write: darkbloom-state.zip.age\n");
	return CLI_USAGE;
}

static int run_export_state(const struct cli_args *args)
{
	return with_config(args, export_state_with);
}

static int import_state_with(const struct cli_args *args, const struct coordinator_config *config)
{
	if (cli_arg_count(args) == 1 && cli_value(args, "identity"))
		return state_admin_import(config, cli_value(args, "identity"), cli_arg(args, 0));
	fprintf(stderr, "darkbloom-coordinator: import-state needs an identity and the file of the export: "
	                "--identity key.txt darkbloom-state.zip.age\n");
	return CLI_USAGE;
}

static int run_import_state(const struct cli_args *args)
{
	return with_config(args, import_state_with);
}

static int show_with(const struct cli_args *args, const struct coordinator_config *config)
{
	bool latest = cli_flag(args, "latest");
	if (cli_arg_count(args) != (latest ? 0 : 1)) {
		fprintf(stderr, "darkbloom-coordinator: ledger show needs a request id (X-Inference-Job-ID), or --latest.\n");
		return CLI_USAGE;
	}
	return admin_ledger_show(config, latest ? NULL : cli_arg(args, 0));
}

static int run_ledger_show(const struct cli_args *args)
{
	return with_config(args, show_with);
}

static int run_config_docs(const struct cli_args *args)
{
	(void)args;
	struct buf out;
	buf_init(&out, 1u << 20);
	coordinator_config_document(&out);
	fwrite(out.at, 1, out.len, stdout);
	buf_free(&out);
	return CLI_OK;
}

static const struct cli_option serve_options[] = {
    CONFIG_OPTION,
    {"port", 'p', "PORT", false, "port to listen on, instead of the configured one; 0 takes any free one"},
    KEY_FILE_OPTION,
    {"port-file", 0, "FILE", false, "write the port here once requests are taken"},
    {"ready-fd", 0, "FD", false, "write the port to this open descriptor once requests are taken"},
    {"check-config", 0, NULL, false, "say whether the configuration is right, and end"},
    END_OF_OPTIONS,
};
static const struct cli_option key_options[] = {
    CONFIG_OPTION,
    {"account", 'a', "ID", false, "account of the key; default: owner"},
    {"name", 'n', "NAME", false, "what the key is for"},
    {"scopes", 0, "LIST", false, "what it may do: inference, keys, account, payouts; default: inference"},
    {"limit-usd", 0, "USD", false, "what it may spend in each window; default: no limit"},
    {"reset", 0, "WINDOW", false, "when the limit begins anew: none, daily, weekly or monthly (UTC); default: none"},
    KEY_FILE_OPTION,
    END_OF_OPTIONS,
};
static const struct cli_option list_options[] = {
    CONFIG_OPTION,
    {"account", 'a', "ID", false, "account of the keys; default: owner"},
    {"json", 0, NULL, false, "print JSON"},
    END_OF_OPTIONS,
};
static const struct cli_option explain_options[] = {
    CONFIG_OPTION,
    {"json", 0, NULL, false, "print JSON"},
    END_OF_OPTIONS,
};
static const struct cli_option give_options[] = {
    CONFIG_OPTION,
    {"reason", 'r', "TEXT", false, "why, for the ledger and the audit trail; default: command line"},
    END_OF_OPTIONS,
};
static const struct cli_option export_options[] = {
    CONFIG_OPTION,
    {"format", 'f', "FORMAT", false, "csv or jsonl; default: jsonl"},
    {"from", 0, "TIME", false, "entries from this day or time on (UTC)"},
    {"to", 0, "TIME", false, "entries before this day or time"},
    {"account", 'a', "ID", false, "of this account only"},
    END_OF_OPTIONS,
};
static const struct cli_option audit_options[] = {
    CONFIG_OPTION,
    {"verify", 0, NULL, false, "only say whether every row is as it was written"},
    {"limit", 'n', "COUNT", false, "the newest rows; default: 50"},
    {"json", 0, NULL, false, "print JSON lines"},
    END_OF_OPTIONS,
};
static const struct cli_option export_state_options[] = {
    CONFIG_OPTION,
    {"recipient", 'r', "AGE1", false, "who can open it, a public key of age; default: state_export.recipient"},
    END_OF_OPTIONS,
};
static const struct cli_option import_state_options[] = {
    CONFIG_OPTION,
    {"identity", 'i', "FILE", false, "the secret key of the recipient, as state-key or age-keygen writes it"},
    END_OF_OPTIONS,
};
static const struct cli_option config_options[] = {CONFIG_OPTION, END_OF_OPTIONS};
static const struct cli_option show_options[] = {
    CONFIG_OPTION,
    {"latest", 0, NULL, false, "the newest request"},
    END_OF_OPTIONS,
};
static const struct cli_option no_options[] = {END_OF_OPTIONS};

#define SERVE_DETAILS                                                                                                          \
	"Takes requests until SIGTERM, then lets running answers finish and writes the books.\n\nThe first start makes the "       \
	"database, the owner's account with some credit, and an API key that is shown once."

#define THROUGH_SOCKET                                                                                                         \
	"Goes through the coordinator that runs on the database, over the socket beside it, or into the database when none "       \
	"runs; standard error says which."

static const struct cli_command commands[] = {
    {"", NULL, "Run the coordinator.", SERVE_DETAILS,
     "darkbloom-coordinator\n"
     "darkbloom-coordinator --config /etc/darkbloom/coordinator.toml --check-config",
     serve_options, run_serve},
    {"serve", NULL, "Run the coordinator.", SERVE_DETAILS,
     "darkbloom-coordinator serve\n"
     "darkbloom-coordinator serve --port 0 --port-file port --key-file key",
     serve_options, run_serve},
    {"keys create", NULL, "Make another API key.", THROUGH_SOCKET,
     "darkbloom-coordinator keys create --name laptop\n"
     "darkbloom-coordinator keys create --name ci --limit-usd 5 --reset monthly\n"
     "darkbloom-coordinator keys create --name admin --scopes inference,keys",
     key_options, run_key_create},
    {"keys list", NULL, "Show the API keys of an account.", THROUGH_SOCKET, "darkbloom-coordinator keys list", list_options,
     run_keys_list},
    {"keys revoke", "KEY_ID", "Delete an API key: from then on it is refused.", THROUGH_SOCKET,
     "darkbloom-coordinator keys revoke key_0123456789abcdef01234567", config_options, run_key_revoke},
    {"credit", "ACCOUNT USD", "Give an account credit.", THROUGH_SOCKET,
     "darkbloom-coordinator credit owner 25\n"
     "darkbloom-coordinator credit owner 5 --reason \"outage of 3 May\"",
     give_options, run_credit},
    {"reward", "ACCOUNT USD", "Give an account money that it may withdraw.", THROUGH_SOCKET,
     "darkbloom-coordinator reward acc_1 10 --reason \"found a fault\"", give_options, run_reward},
    {"explain", "REQUEST_ID", "Say why a request went where it went, or nowhere.",
     "The newest requests are known, whether or not a coordinator runs: some tens of thousands, in 64 MiB beside the database.",
     "darkbloom-coordinator explain 01a2069a-644e-72a8-b724-b41c1a15076f\n"
     "darkbloom-coordinator explain 01a2069a-644e-72a8-b724-b41c1a15076f --json",
     explain_options, run_explain},
    {"audit", NULL, "Who did what to money and keys.",
     "Every row's hash covers the one before it. A coordinator may be running.",
     "darkbloom-coordinator audit --limit 20\n"
     "darkbloom-coordinator audit --verify",
     audit_options, run_audit},
    {"reconcile", NULL, "Compare Stripe with the books.",
     "Asks the running coordinator, which asks Stripe for all that it moved. The status is 1 when they differ.",
     "darkbloom-coordinator reconcile\n"
     "darkbloom-coordinator reconcile --json",
     explain_options, run_reconcile},
    {"ledger close", NULL, "Close the period: from then on its entries cannot be altered unnoticed.", THROUGH_SOCKET,
     "darkbloom-coordinator ledger close", config_options, run_ledger_close},
    {"ledger export", NULL, "Print the ledger's entries as CSV or JSON lines.", "A coordinator may be running.",
     "darkbloom-coordinator ledger export --format csv > ledger.csv\n"
     "darkbloom-coordinator ledger export --from 2026-01-01 --to 2026-02-01 --account owner",
     export_options, run_ledger_export},
    {"ledger verify", NULL, "Recompute the books from their rows.",
     "Prints JSON; the status is 1 when anything does not add up. A coordinator may be running.",
     "darkbloom-coordinator ledger verify", config_options, run_ledger_verify},
    {"ledger show", "[REQUEST_ID]", "What one request held and cost.",
     "Prints JSON. The id is the X-Inference-Job-ID of the answer. A coordinator may be running.",
     "darkbloom-coordinator ledger show --latest", show_options, run_ledger_show},
    {"migrate", NULL, "Bring the database to the schema of this program.",
     "Make a backup first: there is no way back. A coordinator refuses to start on an older schema, and on a newer one.",
     "darkbloom-coordinator migrate", config_options, run_migrate},
    {"backup", "FOLDER", "Copy the database into a new folder.",
     "A coordinator may be running. The copy's pages and books are checked, and manifest.json has the hash of each file. It "
     "holds "
     "everything the database does: keep it as safe.",
     "darkbloom-coordinator backup /var/backups/darkbloom-2026-11-23", config_options, run_backup},
    {"restore", "FOLDER", "Make the database of a backup.",
     "The database must not exist, or be empty in PostgreSQL. Nothing is made of a backup that is not what was written.",
     "darkbloom-coordinator restore /var/backups/darkbloom-2026-11-23", config_options, run_restore},
    {"state-key", "FILE", "Make the key pair that an export of the state is encrypted to.",
     "Writes the secret half to the file, mode 0600, and prints the public one. `age-keygen` makes the same.",
     "darkbloom-coordinator state-key state-identity.txt", no_options, run_state_key},
    {"export-state", "FILE", "Write the whole state, encrypted, to carry it to another host.",
     "The database and the keys beside it, in an age file that only the recipient can open. A coordinator may be running. "
     "Stop it before the one that is to be moved to another host for good, and start none there any more.",
     "darkbloom-coordinator export-state --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p state.age",
     export_state_options, run_export_state},
    {"import-state", "FILE", "Make a coordinator's state of an export.",
     "The data folder and the database must be empty. All of the export is checked before anything takes its place.\n"
     "The coordinator then starts draining, until an operator opens its gate.",
     "darkbloom-coordinator import-state --identity state-identity.txt state.age", import_state_options, run_import_state},
    {"config docs", NULL, "Print the reference of all settings as Markdown.", NULL, "darkbloom-coordinator config docs",
     no_options, run_config_docs},
    {.run = NULL},
};

static const struct cli_program program = {
    .name = "darkbloom-coordinator",
    .summary = "Routes, seals and bills private inference requests.",
    .version = DARKBLOOM_VERSION,
    .commands = commands,
};

int main(int argc, char **argv)
{
	harden();
	raise_limits();
	if (crypto_init() != DB_OK) {
		fprintf(stderr, "darkbloom-coordinator: The system gives no random numbers, without which nothing here is safe.\n");
		return CLI_FAILED;
	}
	return cli_main(&program, argc, argv);
}
