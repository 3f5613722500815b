/* tables.h: the tables the program is made of, for `aquila show NAME`. */
#ifndef AQ_FRONTEND_CLI_TABLES_H
#define AQ_FRONTEND_CLI_TABLES_H

#include "ir/status.h"

int aq_table_exists(const char *name);
/* Word i that `aquila show` takes, tables and others, NULL past the last; user is not looked at: for aq_nearest. */
const char *aq_show_word(void *user, uint32_t i);
/* Prints it on standard output, as text or as one JSON array of objects. name must exist. */
AQ_MUST_USE aq_status aq_table_print(const char *name, int json);

#endif
