/** How a message is described: a table of its fields, from which its type and its check come. */
import { type Identity, isCount, isFields, isIdentity } from './environment.ts'

/** Reads one field; undefined: it is not what it must be, and the message is broken. */
export type Field<Value> = (value: unknown) => Value | undefined
/** A field that may be missing, as does one that only a later version understands. */
type Optional<Value> = { readonly optional: Field<Value> }
export type FieldTable = Readonly<Record<string, Field<unknown> | Optional<unknown>>>

export type Read<F> = F extends Field<infer Value> ? Exclude<Value, undefined> : never
export type Shape<Table extends FieldTable> = {
  readonly [Name in keyof Table as Table[Name] extends Optional<unknown> ? never : Name]: Read<Table[Name]>
} & {
  readonly [Name in keyof Table as Table[Name] extends Optional<unknown> ? Name : never]?:
    | (Table[Name] extends Optional<infer Value> ? Value : never)
    | undefined
}

export const optional = <Value>(field: Field<Value>): Optional<Value> => ({ optional: field })
export const text: Field<string> = (value) => (typeof value === 'string' ? value : undefined)
export const flag: Field<boolean> = (value) => (typeof value === 'boolean' ? value : undefined)
export const number: Field<number> = (value) => (typeof value === 'number' ? value : undefined)
export const count: Field<number> = (value) => (isCount(value) ? value : undefined)
export const pid: Field<number> = (value) => (isCount(value) && value > 0 ? value : undefined)
export const identity: Field<Identity> = (value) => (isIdentity(value) ? value : undefined)

export function oneOf<const Word extends string>(...words: readonly Word[]): Field<Word> {
  return (value) => words.find((word) => word === value)
}

export function list<Value>(field: Field<Value>): Field<readonly Value[]> {
  return (value) => {
    if (!Array.isArray(value)) return undefined
    const items = value.map(field)
    return items.includes(undefined) ? undefined : (items as Value[])
  }
}

/** Values by name, whatever the names are. */
export function byName<Value>(field: Field<Value>): Field<Readonly<Record<string, Value>>> {
  return (value) => {
    if (!isFields(value)) return undefined
    const entries = Object.entries(value).map(([name, one]) => [name, field(one)] as const)
    return entries.some(([, one]) => one === undefined) ? undefined : (Object.fromEntries(entries) as never)
  }
}

/** An object of these fields; what else is in it is of a later version, and is left out. */
export function object<const Table extends FieldTable>(table: Table): Field<Shape<Table>> {
  return (value) => {
    if (!isFields(value)) return undefined
    const read: Record<string, unknown> = {}
    for (const [name, field] of Object.entries(table)) {
      const isNeeded = typeof field === 'function'
      const given = Object.hasOwn(value, name) ? value[name] : undefined
      const known = (isNeeded ? field : field.optional)(given)
      if (known !== undefined) read[name] = known
      else if (isNeeded) return undefined
    }
    return read as Shape<Table>
  }
}
