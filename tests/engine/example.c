/* example.c: a program of its own that goes on with a text: example MODEL TEXT [TARGET]. C99; it needs frontend/aquila.h, what that includes, and the
 * static libraries aq_frontend aq_passes aq_codegen aq_runtime aq_ir, cjson, utf8proc, pcre2-8, pthread, dl, m. */
#include "frontend/aquila.h"

#include <stdio.h>
#include <string.h>

static aq_status go_on(aq_engine *engine, aq_rt_sampler *sampler, const char *text) {
    const int32_t *prompt;
    const float *logits;
    const char *piece;
    size_t n, length;
    int32_t id;
    int i;
    AQ_TRY(aq_engine_tokenize(engine, text, strlen(text), &prompt, &n));
    AQ_TRY(aq_engine_feed(engine, 0, prompt, (int64_t)n, 1, &logits));
    for (i = 0; i < 16; i++) {
        id = aq_rt_sample(sampler, logits, NULL);
        if (id == aq_engine_eos(engine))
            break;
        AQ_TRY(aq_engine_decode(engine, id, &piece, &length));
        fwrite(piece, 1, length, stdout);
        AQ_TRY(aq_engine_feed(engine, 0, &id, 1, 1, &logits));
    }
    putchar('\n');
    return AQ_OK;
}

int main(int argc, char **argv) {
    aq_engine_options options;
    const aq_rt_sampling greedy = {0};
    aq_engine *engine = NULL;
    aq_rt_sampler *sampler = NULL;
    aq_status status;
    if (argc < 3)
        return AQ_USAGE;
    memset(&options, 0, sizeof options);
    options.target = argc > 3 ? argv[3] : "cpu";
    AQ_TRY_GOTO(status, close, aq_engine_open(argv[1], &options, &engine));
    AQ_TRY_GOTO(status, close, aq_rt_sampler_open(&greedy, aq_engine_vocab(engine), &sampler));
    status = go_on(engine, sampler, argv[2]);
close:
    if (status != AQ_OK)
        fprintf(stderr, "%s\n", aq_error());
    aq_rt_sampler_close(sampler);
    aq_engine_close(engine);
    return (int)status;
}
