// People and their tokens, projects, their types and members.
import type { NamedArtifact, Policy } from '../../workflows/domain/model.ts';
import type { Digest, StorePath } from '../../workflows/domain/names.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import type { AuditEntry, Page } from './audit.ts';

export interface Principal {
  readonly tokenId: string;
  /** User, application or job name. */
  readonly name: string;
  readonly kind: 'user' | 'application' | 'job';
  readonly admin: boolean;
  /** Job tokens: what the job may fetch and leave. */
  readonly job: JobGrant | null;
}

/** A project, and the roles that a principal was given in it. */
export interface Standing {
  readonly project: Project;
  readonly roles: readonly Role[];
}

export interface JobGrant {
  readonly job: string;
  readonly inputs: readonly NamedArtifact[];
  /** Outputs by name with the store path each goes to. */
  readonly outputs: readonly { readonly name: string; readonly path: StorePath; readonly limit: number }[];
}

export interface User {
  readonly user: string;
  readonly admin: boolean;
  /** Their tokens open nothing, and they count nowhere until they are enabled again. */
  readonly disabled: boolean;
}

/** A token without its secret. */
export interface IssuedToken {
  readonly tokenId: string;
  readonly kind: Principal['kind'];
  /** Whose it is: a user, an application or a job. */
  readonly name: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
}

export interface Member {
  readonly user: string;
  readonly roles: readonly Role[];
}

/** A member as they stand now: the roles of a disabled person are kept, and count for nothing. */
export interface StandingMember extends Member {
  readonly disabled: boolean;
}

/** A type that a project may use: its own, or one of another project that lets it be consumed. */
export interface TypeAccess {
  readonly type: string;
  /** The project that owns it, which alone releases into it. */
  readonly owner: string;
  /** Projects whose applications may consume it besides; told to the owner only. */
  readonly consumers: readonly string[];
}

/** Types that one project may own: every request reads them with its project. */
export const TYPES_LIMIT = 50;

export interface Project {
  readonly project: string;
  readonly types: readonly string[];
  readonly policy: Policy;
}

/** The people's part of Records. */
export interface PeopleRecords {
  createUser(user: string, admin: boolean, audit: AuditEntry): Promise<void>;
  user(user: string): Promise<User | undefined>;
  users(): Promise<readonly User[]>;
  /** Makes somebody an administrator or no longer, disables or enables them. `Conflict` when no enabled administrator would be left. */
  changeUser(
    user: string,
    change: { readonly admin?: boolean | undefined; readonly disabled?: boolean | undefined },
    audit: AuditEntry,
  ): Promise<void>;
  /** Stores only the SHA-256 of a token. `expiresAt` null: until revoked. */
  issueToken(
    token: {
      tokenId: string;
      sha256: Digest;
      kind: Principal['kind'];
      name: string;
      expiresAt: string | null;
      job: JobGrant | null;
    },
    audit: AuditEntry,
  ): Promise<void>;
  /** The principal of a token that is neither revoked nor expired. */
  principal(sha256: Digest): Promise<Principal | undefined>;
  /** The same, and how they stand in a project, if there is one of this name: one question, since every request waits for it. */
  principalIn(
    sha256: Digest,
    project: string,
  ): Promise<{ readonly principal: Principal; readonly standing: Standing | undefined } | undefined>;
  /** Tokens of everything of this name, oldest first: a user, an application and a job may share one. */
  tokens(name: string): Promise<readonly IssuedToken[]>;
  token(tokenId: string): Promise<IssuedToken | undefined>;
  /** The tokens of jobs that still work, by their ids. */
  jobTokens(page: Page): Promise<{ rows: readonly IssuedToken[]; next?: string }>;
  revokeToken(tokenId: string, audit: AuditEntry): Promise<void>;
}

/** The projects' part of Records. */
export interface ProjectRecords {
  /** `Conflict` if the project, or one of its types in another project, exists. */
  createProject(project: Project, audit: AuditEntry): Promise<void>;
  project(project: string): Promise<Project | undefined>;
  projects(user: string | null): Promise<readonly Project[]>;
  /** Gives a project more types; those it has already are fine. `Conflict` if one is another project's, `InvalidInput` beyond {@link TYPES_LIMIT}. */
  addTypes(project: string, types: readonly string[], audit: AuditEntry): Promise<void>;
  /** The project's own types, and those of others that it may consume. */
  typeAccess(project: string): Promise<readonly TypeAccess[]>;
  /** Lets the applications of another project consume a type, or no longer (`granted: false`). `NotFound` for a type that is not the owner's, and for no such consumer. */
  setTypeGrant(
    grant: { readonly owner: string; readonly type: string; readonly consumer: string; readonly granted: boolean },
    audit: AuditEntry,
  ): Promise<void>;
  /** May applications of this project consume the type now? */
  mayConsume(project: string, type: string): Promise<boolean>;
  /** The project that owns a type. */
  projectOfType(type: string): Promise<string | undefined>;
  setPolicy(project: string, policy: Policy, audit: AuditEntry): Promise<void>;
  /** Replaces a person's roles in a project; an empty list removes them. `NotFound` for an unknown user. */
  setMember(project: string, member: Member, audit: AuditEntry): Promise<void>;
  members(project: string): Promise<readonly StandingMember[]>;
}
