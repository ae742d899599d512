/* What people may ask of the portal: each answers its request, or parks it. */
#ifndef POSTERN_PORTAL_HANDLERS_H
#define POSTERN_PORTAL_HANDLERS_H

struct request;

/* handlers_people.c: every request, once it is whole. */
void handle_request(struct request *r);
/* handlers_owner.c: /host/KEY..., of somebody who is logged in. */
void handle_owner(struct request *r);

#endif
