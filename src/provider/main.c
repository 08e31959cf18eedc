/* darkbloom: run a provider, look at it, keep its models, talk to a model. */
#include <stdio.h>
#include <unistd.h>

#include "core/version.h"
#include "crypto/secret.h"
#include "provider/cli/cli.h"
#include "provider/engine/engine_processor.h"
#include "provider/platform/platform.h"

static const struct cli_command commands[] = {
    {.name = "start",
     .arguments = NULL,
     .summary = "Serve models to a coordinator.",
     .details =
         "Loads the models, joins the coordinator and answers sealed requests until it is told to stop. SIGTERM and Ctrl-C "
         "finish the running answers first (at most 20 seconds; a second signal cancels them). Prompts are opened only "
         "inside this process, which has no core dumps and admits no debugger.",
     .example = "darkbloom start --foreground --coordinator-url wss://coordinator.example\n"
                "darkbloom start --foreground --coordinator-url ws://127.0.0.1:8080 --model smollm2-135m",
     .options = start_options,
     .run = run_start},
    {.name = "status",
     .summary = "Show what the provider on this machine is doing.",
     .details = "Reads the state that the running provider writes: connection, trust, models, requests, tokens.",
     .example = "darkbloom status\ndarkbloom status --json",
     .options = status_options,
     .run = run_status},
    {.name = "chat",
     .arguments = "[PROMPT]",
     .summary = "Talk to a model through any coordinator.",
     .details =
         "Without a prompt it opens a conversation on the terminal: Enter sends, Ctrl-C stops the answer, Ctrl-D leaves, /help "
         "lists the commands. With a prompt, or with text on standard input, it prints one answer. The API key comes from "
         "--key-file or the environment variable DARKBLOOM_API_KEY.",
     .example = "darkbloom chat --url http://127.0.0.1:8080 --model smollm2-135m\n"
                "darkbloom chat --url http://127.0.0.1:8080 --blind \"A question that only the provider may read\"\n"
                "darkbloom chat --url http://127.0.0.1:8080 --stats \"Please tell me the capital of France.\"",
     .options = chat_options,
     .run = run_chat},
    {.name = "login",
     .summary = "Log this machine in to an account.",
     .details =
         "Shows a code and the address of a page. Whoever is logged in there types the code and confirms; then this machine "
         "has "
         "a token of that account, in a file that only you can read. A provider started here earns for the account from then "
         "on.",
     .example = "darkbloom login --coordinator-url https://coordinator.example",
     .options = login_options,
     .run = run_login},
    {.name = "logout",
     .summary = "Give the token back and forget it.",
     .details =
         "The coordinator accepts the token no longer, and the file is removed. A provider that is running stays linked until "
         "it connects anew.",
     .example = "darkbloom logout",
     .options = logout_options,
     .run = run_logout},
    {.name = "whoami",
     .summary = "Show the account that this machine is logged in to.",
     .example = "darkbloom whoami\ndarkbloom whoami --json",
     .options = whoami_options,
     .run = run_whoami},
    {.name = "verify",
     .arguments = "RECEIPT",
     .summary = "Check the receipt of a request without asking anyone.",
     .details =
         "Checks the coordinator's signature, the provider's, and that the cost follows from the tokens and prices. With --key "
         "it must be that coordinator's key; with --text the provider must have signed that very text.",
     .example = "curl -H \"Authorization: Bearer $KEY\" https://coordinator.example/v1/receipts/ID | darkbloom verify -\n"
                "darkbloom verify receipt.json --text answer.txt",
     .options = verify_options,
     .run = run_verify},
    {.name = "models list",
     .summary = "List the models on this machine.",
     .example = "darkbloom models list\ndarkbloom models list --json",
     .options = models_list_options,
     .run = run_models_list},
    {.name = "models pull",
     .arguments = "SOURCE",
     .summary = "Get a model: from a manifest's URL, or from a GGUF file on this machine.",
     .details =
         "A download can be interrupted and goes on where it stopped. Every file is checked against the manifest before the "
         "model appears in the list. A local GGUF file is linked, not copied, and needs --id.",
     .example = "darkbloom models pull https://models.example/smollm2-135m/manifest.json\n"
                "darkbloom models pull ./SmolLM2-135M-Instruct.Q4_1.gguf --id smollm2-135m",
     .options = models_pull_options,
     .run = run_models_pull},
    {.name = "models verify",
     .arguments = "[ID]",
     .summary = "Hash the files of one model, or of all, and compare with their manifests.",
     .example = "darkbloom models verify\ndarkbloom models verify smollm2-135m",
     .options = models_verify_options,
     .run = run_models_verify},
    {.name = "cache status",
     .summary = "Show what the prefix cache keeps on this machine.",
     .details =
         "The provider keeps the states of prompts' beginnings in memory and, encrypted, on disk, so that a conversation goes "
         "on without being computed anew, also after a restart. What is on disk is sealed under a secret of this device.",
     .example = "darkbloom cache status\ndarkbloom cache status --json",
     .options = cache_status_options,
     .run = run_cache_status},
    {.name = "cache settings",
     .summary = "Print the reference of the prefix cache's settings as Markdown.",
     .example = "darkbloom cache settings",
     .options = cache_settings_options,
     .run = run_cache_settings},
    {.name = "cache erase",
     .summary = "Forget what the prefix cache keeps: everything, or one tenant's.",
     .details = "Also for running providers: they remove their files, and forget what they hold in memory.",
     .example = "darkbloom cache erase\ndarkbloom cache erase --tenant 5f3a...",
     .options = cache_erase_options,
     .run = run_cache_erase},
    {.run = NULL},
};

static const struct cli_program program = {
    .name = "darkbloom",
    .summary = "A provider of the Darkbloom private inference network, and the tools around it.",
    .version = DARKBLOOM_VERSION,
    .commands = commands,
};

/* Before the library's own constructors: they may use what this processor does not know. */
__attribute__((constructor(101))) static void check_processor(void)
{
	char why[ENGINE_PROCESSOR_SENTENCE];
	if (engine_processor_suits(engine_processor_built_for, engine_processor_has(), why))
		return;
	fprintf(stderr, "darkbloom: %s\n", why);
	_exit(CLI_HARDWARE);
}

int main(int argc, char **argv)
{
	struct error error = {.text = "the cryptographic libraries could not be started"};
	bool will_hold_prompts = argc > 1 && (str_is(STR("start"), argv[1]) || str_is(STR("chat"), argv[1]));
	if ((will_hold_prompts && platform_harden(argv, &error)) || crypto_init()) {
		fprintf(stderr, "darkbloom: %s\n", error.text);
		return CLI_FAILED;
	}
	return cli_main(&program, argc, argv);
}
