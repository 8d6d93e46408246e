/** The JSON schema of a configuration, made of the table by which it is read. */
import { serviceFields } from './fields.ts'

export function configSchema(): object {
  const properties = Object.fromEntries(
    Object.entries(serviceFields).map(([field, { kind, says }]) => [field, { description: says, ...kind.schema }]),
  )
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'cook.config.json: services of cook-daemon',
    type: 'object',
    properties: {
      $schema: { type: 'string' },
      services: {
        description: 'In the order in which commands take them.',
        type: 'array',
        minItems: 1,
        items: { $ref: '#/definitions/service' },
      },
    },
    required: ['services'],
    additionalProperties: false,
    definitions: { service: { type: 'object', properties, required: ['script'], additionalProperties: false } },
  }
}
