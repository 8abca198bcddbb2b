/* Checks of what clients connect to: listen sections with their certificates, and session tickets.
 */
#ifndef TARRY_CONF_VERIFYLISTEN_H
#define TARRY_CONF_VERIFYLISTEN_H

#include "conf/draft.h"

/* A listen section with its identities. */
void verifylisten_section(struct draft *d, struct draft_section *s);

/* The file of certificates of authorities that the option `name` leads to. */
void verifylisten_authorities(
    struct draft *d, const struct draft_section *s, const char *name, struct str path);

/* A certificate with its key, of a section that has both options. False after a mistake. */
bool verifylisten_pair(
    struct draft *d, const struct draft_section *s, struct str certificate, struct str key);

/* The options of session tickets. */
void verifylisten_tickets(struct draft *d, const struct draft_section *root);

#endif
