// People and their tokens; projects with their types and members.
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
  /** Job tokens: what the job may fetch and upload. */
  readonly job: JobGrant | null;
}

/** A project and the principal's roles in it. */
export interface Standing {
  readonly project: Project;
  readonly roles: readonly Role[];
}

export interface JobGrant {
  readonly job: string;
  /** The job's workflow, which the outputs are recorded for. Tokens of earlier versions name none. */
  readonly workflow?: string;
  readonly inputs: readonly NamedArtifact[];
  /** Outputs by name, each with its store path. */
  readonly outputs: readonly { readonly name: string; readonly path: StorePath; readonly limit: number }[];
}

export interface User {
  readonly user: string;
  readonly admin: boolean;
  /**
   * A disabled user's tokens are rejected, and the user's roles and approvals do not count until the user is enabled
   * again.
   */
  readonly disabled: boolean;
}

/** A token without its secret. */
export interface IssuedToken {
  readonly tokenId: string;
  readonly kind: Principal['kind'];
  /** The owner: a user, an application or a job. */
  readonly name: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
}

export interface Member {
  readonly user: string;
  readonly roles: readonly Role[];
}

/** A member's current status. The roles of a disabled user are kept but do not count. */
export interface StandingMember extends Member {
  readonly disabled: boolean;
}

/** A type that a project may use: its own, or another project's type granted to it. */
export interface TypeAccess {
  readonly type: string;
  /** The owning project. Only it can release into the type. */
  readonly owner: string;
  /** Other projects whose applications may consume the type. Only the owner sees them. */
  readonly consumers: readonly string[];
}

/** Maximum number of types a project may own. Every request reads them with its project. */
export const TYPES_LIMIT = 50;

export interface Project {
  readonly project: string;
  readonly types: readonly string[];
  readonly policy: Policy;
}

/** The people part of Records. */
export interface PeopleRecords {
  createUser(user: string, admin: boolean, audit: AuditEntry): Promise<void>;
  user(user: string): Promise<User | undefined>;
  users(): Promise<readonly User[]>;
  /**
   * Grants or removes administrator rights, disables or enables a user. `Conflict` if no enabled administrator would be
   * left.
   */
  changeUser(
    user: string,
    change: { readonly admin?: boolean | undefined; readonly disabled?: boolean | undefined },
    audit: AuditEntry,
  ): Promise<void>;
  /** Stores only the SHA-256 of a token. A null `expiresAt` means valid until revoked. */
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
  /** The principal, with their standing in the project if it exists. One query, because every request waits for it. */
  principalIn(
    sha256: Digest,
    project: string,
  ): Promise<{ readonly principal: Principal; readonly standing: Standing | undefined } | undefined>;
  /** Tokens of every owner with this name, oldest first: a user, an application and a job may share a name. */
  tokens(name: string): Promise<readonly IssuedToken[]>;
  token(tokenId: string): Promise<IssuedToken | undefined>;
  /** Tokens of jobs that are still running, ordered by id. */
  jobTokens(page: Page): Promise<{ rows: readonly IssuedToken[]; next?: string }>;
  revokeToken(tokenId: string, audit: AuditEntry): Promise<void>;
}

/** The project part of Records. */
export interface ProjectRecords {
  /** `Conflict` if the project exists, or one of its types belongs to another project. */
  createProject(project: Project, audit: AuditEntry): Promise<void>;
  project(project: string): Promise<Project | undefined>;
  projects(user: string | null): Promise<readonly Project[]>;
  /**
   * Adds types to a project; types it already owns are ignored. `Conflict` if a type belongs to another project,
   * `InvalidInput` beyond {@link TYPES_LIMIT}.
   */
  addTypes(project: string, types: readonly string[], audit: AuditEntry): Promise<void>;
  /** The project's own types, and other projects' types that it may consume. */
  typeAccess(project: string): Promise<readonly TypeAccess[]>;
  /**
   * Grants another project's applications the right to consume a type, or revokes it (`granted: false`). `NotFound` if
   * the owner does not own the type or the consumer does not exist.
   */
  setTypeGrant(
    grant: { readonly owner: string; readonly type: string; readonly consumer: string; readonly granted: boolean },
    audit: AuditEntry,
  ): Promise<void>;
  /** Whether applications of this project may currently consume the type. */
  mayConsume(project: string, type: string): Promise<boolean>;
  /** The project that owns a type. */
  projectOfType(type: string): Promise<string | undefined>;
  /** Sets the policy, whose version must be later than the one in force: otherwise `Conflict`. */
  setPolicy(project: string, policy: Policy, audit: AuditEntry): Promise<void>;
  /** Replaces a user's roles in a project; an empty list removes the member. `NotFound` for an unknown user. */
  setMember(project: string, member: Member, audit: AuditEntry): Promise<void>;
  members(project: string): Promise<readonly StandingMember[]>;
}
