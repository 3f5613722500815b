/* messages.h: conversations in files: --messages, /load. */
#ifndef AQ_FRONTEND_CHAT_MESSAGES_H
#define AQ_FRONTEND_CHAT_MESSAGES_H

#include "frontend/chat/chat.h"

/* bytes[0..n): a JSON list of {"role": "system|user|assistant", "content": "..."}; other members are passed over. Texts are copied into the arena.
 * AQ_REFUSED "PLACE:message 3: ...", *out as it was. */
AQ_MUST_USE aq_status aq_chat_messages_read(aq_arena *arena, const char *place, const char *bytes, size_t n, aq_chat_messages *out);

#endif
