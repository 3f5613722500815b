/* history.c: how much of a conversation fits. The newest turns matter most, so the oldest go first, and a history begins with a user's
 * turn (the original adds single messages newest first, and may begin with an answer; the separators, which go by position, are then
 * those of the other role). Cost: the text is encoded log2(turns) times. */
#include "frontend/chat/chat.h"

aq_status aq_chat_cut(aq_arena *arena, const aq_chat_request *request, uint32_t first, aq_chat_request *out) {
    aq_chat_message *kept;
    uint32_t n = 0;
    AQ_ALLOC(arena, kept, request->n_messages);
    if (request->n_messages && request->messages[0].role == AQ_CHAT_SYSTEM && first > 0)
        kept[n++] = request->messages[0];
    for (uint32_t i = first; i < request->n_messages; i++)
        kept[n++] = request->messages[i];
    *out = *request;
    out->messages = kept;
    out->n_messages = n;
    return AQ_OK;
}

static aq_status count(const aq_tokenizer *t, const aq_chat_request *request, uint32_t first, size_t *out) {
    aq_arena arena = {0};
    aq_ids ids = {0};
    aq_chat_request cut;
    aq_chat_text text;
    aq_status status = aq_chat_cut(&arena, request, first, &cut);
    if (status == AQ_OK)
        status = aq_chat_render(&arena, &cut, &text);
    if (status == AQ_OK)
        status = aq_chat_encode(t, &text, &ids);
    *out = ids.n;
    aq_ids_close(&ids);
    aq_arena_close(&arena);
    return status;
}

/* Where a history may begin: the message after which `skipped` user turns are left out. */
static uint32_t start(const aq_chat_request *r, uint32_t skipped) {
    uint32_t users = 0, i = 0;
    if (!skipped)
        return 0;
    for (; i < r->n_messages; i++)
        if (r->messages[i].role == AQ_CHAT_USER && users++ == skipped)
            break;
    return i;
}

aq_status aq_chat_fit(const aq_tokenizer *t, const aq_chat_request *request, size_t budget, uint32_t *out_first) {
    uint32_t users = 0, low = 0, high;
    size_t n;
    for (uint32_t i = 0; i < request->n_messages; i++)
        users += request->messages[i].role == AQ_CHAT_USER;
    high = users ? users - 1 : 0; /* user turns that may go: all but the last */
    AQ_TRY(count(t, request, start(request, high), &n));
    if (n > budget)
        return aq_fail(AQ_REFUSED, NULL, "the last turn alone takes %zu tokens: at most %zu expected (--context)", n, budget);
    while (low < high) { /* high fits */
        uint32_t middle = low + (high - low) / 2;
        AQ_TRY(count(t, request, start(request, middle), &n));
        if (n <= budget)
            high = middle;
        else
            low = middle + 1;
    }
    *out_first = start(request, high);
    return AQ_OK;
}
